"""One paired episode on disk: ``NAME.frames.npy`` (uint8 images) and ``NAME.npz`` (the rest).

Frames lie uncompressed so that a training step reads them at memory speed; every frame went
through one JPEG round trip of random quality, because that is what a served policy sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Episode:
    """T robot ticks and V human-video frames of one initial scene. Positions in the world [m]."""

    task: str
    video: NDArray[Any]  # uint8 [V, S, S, 3], or features [V, K, W] of a frozen encoder
    hand_position_m: NDArray[np.float32]  # [V, 3]
    hand_closed: NDArray[np.float32]  # [V]
    # Hand (video) or end effector (robot), thing to act on, where it belongs: world frame [m].
    video_landmarks_m: NDArray[np.float32]  # [V, 3, 3]
    landmarks_m: NDArray[np.float32]  # [T, 3, 3]
    video_landmarks_uv: NDArray[np.float32]  # [V, 3, 2] the same in the picture, parts of its side
    landmarks_uv: NDArray[np.float32]  # [T, 3, 2]
    points: NDArray[np.float32]  # [P, 2] of the video's first frame, in [0, 1] of the side
    tracks: NDArray[np.float32]  # [P, V, 2], in [0, 1] of the side
    visible: NDArray[np.bool_]  # [P, V]
    images: NDArray[
        Any
    ]  # uint8 [T, S, S, 3] (or features), seen before the action of the same tick
    ee_position_m: NDArray[np.float32]  # [T, 3]
    gripper_opening: NDArray[np.float32]  # [T]
    actions_m: NDArray[np.float32]  # [T, 3]
    gripper_closed: NDArray[np.float32]  # [T]
    terminate: NDArray[np.float32]  # [T]
    # Tracks in the robot's own frames, where known: [P, T, 2] in [0, 1] of the side, and [P, T].
    robot_tracks: NDArray[np.float32] | None = None
    robot_visible: NDArray[np.bool_] | None = None


_ARRAYS = tuple(
    name for name in Episode.__dataclass_fields__ if name not in ("task", "video", "images")
)


def jpeg_round_trip(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        quality = int(rng.integers(75, 97))
        ok, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert ok and decoded is not None
        out[i] = decoded[..., ::-1]
    return out


def save(episode: Episode, folder: Path, name: str) -> None:
    """Write atomically: the ``.npz`` appears last and marks the episode as complete."""
    np.save(folder / f"{name}.frames.npy", np.concatenate([episode.video, episode.images]))
    arrays = {key: value for key in _ARRAYS if (value := getattr(episode, key)) is not None}
    temporary = folder / f".{name}.tmp.npz"
    np.savez(temporary, task=episode.task, frames_video=len(episode.video), **arrays)
    temporary.rename(folder / f"{name}.npz")


def load(path: Path) -> Episode:
    """Read the episode whose ``.npz`` is ``path``; images stay memory-mapped."""
    with np.load(path) as data:
        split = int(data["frames_video"])
        arrays = {key: data[key] for key in _ARRAYS if key in data}
        task = str(data["task"])
    frames = np.load(path.with_suffix(".frames.npy"), mmap_mode="r")
    return Episode(task=task, video=frames[:split], images=frames[split:], **arrays)
