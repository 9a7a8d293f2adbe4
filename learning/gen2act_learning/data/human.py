"""Human videos and tracks beside a dataset: an MP4 and an NPZ per robot episode, in `human/`.

Named after what the robot did, not after the episode's number: numbers change when the `lerobot`
tools delete, split or merge episodes, and a video must never end up beside another episode.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.errors import InvalidVideo
from gen2act_contracts.video import decode_mp4

from .errors import DatasetError
from .layout import write_bytes

FOLDER = "human"
TRACK_ARRAYS = ("points", "tracks", "visible")
ROBOT_ARRAYS = ("robot_tracks", "robot_visible")  # in the robot's own frames, where known
# What only a simulator knows; NaN in an Episode whose video was generated or recorded.
TRUTH_ARRAYS = ("hand_position_m", "hand_closed", "video_landmarks_m", "video_landmarks_uv")


@dataclass(frozen=True)
class Human:
    """A human video as stored: MP4 bytes, what is known of it, and where it comes from."""

    mp4: bytes
    arrays: Mapping[str, NDArray[Any]]  # TRACK_ARRAYS; the others where known
    provenance: Mapping[str, Any]


def episode_key(task: str, actions: NDArray[Any]) -> str:
    """Names an episode by its task and the stored action rows, float32 [T, A]."""
    rows = np.ascontiguousarray(actions, dtype=np.float32)
    return hashlib.sha256(task.encode() + b"\0" + rows.tobytes()).hexdigest()[:24]


def path_of(root: Path, key: str) -> Path:
    """The MP4; the NPZ lies beside it and is written last."""
    return root / FOLDER / f"{key}.mp4"


def has_human(root: Path, key: str) -> bool:
    return path_of(root, key).with_suffix(".npz").exists()


def write_human(root: Path, key: str, human: Human) -> None:
    """Complete once the NPZ is there; writing again replaces."""
    path = path_of(root, key)
    write_bytes(path, human.mp4)
    out = io.BytesIO()
    arrays: dict[str, Any] = dict(human.arrays)
    np.savez_compressed(out, provenance=json.dumps(dict(human.provenance)), **arrays)
    write_bytes(path.with_suffix(".npz"), out.getvalue())


def read_labels(root: Path, key: str) -> dict[str, NDArray[Any]]:
    """The stored arrays. Raises DatasetError: there is no human video of this episode."""
    path = path_of(root, key).with_suffix(".npz")
    try:
        with np.load(path) as data:
            return {name: data[name] for name in data.files if name != "provenance"}
    except FileNotFoundError:
        raise DatasetError(
            f"{path} is missing; fill in the human videos with "
            f"`gen2act-data imagine --dataset {root} --videogen HOST:PORT`"
        ) from None


def read_video(root: Path, key: str) -> NDArray[np.uint8]:
    """Frames uint8 [V, S, S, 3]. Raises DatasetError: missing or broken."""
    path = path_of(root, key)
    try:
        return decode_mp4(path.read_bytes())[0]
    except (OSError, InvalidVideo) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); delete its .npz and make it anew with "
            f"`gen2act-data imagine --dataset {root} --videogen HOST:PORT`"
        ) from None
