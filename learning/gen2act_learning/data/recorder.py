"""Writes paired episodes as a LeRobotDataset v3.0 that a killed recorder leaves valid.

Episodes come in parts: the part's videos and tables are written first, `meta/info.json` last, and
no reader looks beyond what that file speaks of. Killed, a recorder loses the part it was at.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gen2act_contracts.video import encode_mp4
from gen2act_sim.world import DELTA_LIMIT_M

from . import layout, statistics
from .description import FILE, LABELS, TICK_HZ, Description, write_description
from .episodes import Episode
from .errors import DatasetError
from .human import ROBOT_ARRAYS, TRACK_ARRAYS, TRUTH_ARRAYS, Human, episode_key, write_human
from .mp4 import encode_clip, join_clips
from .statistics import Statistics

CAMERA = "observation.images.front"
PART_EPISODES = 64
_HUMAN_FPS = 8.0  # of the stored file; a human video's pace carries no meaning here

OUR_DESCRIPTION = Description(
    camera=CAMERA,
    action=("dx", "dy", "dz"),
    gripper="gripper_closed>0.5",
    bounds=((-DELTA_LIMIT_M, DELTA_LIMIT_M),) * 3,
    position=("x", "y", "z"),
    opening="gripper_opening",
    opening_range=(0.0, 1.0),
    terminate="terminate",
)


@dataclass(frozen=True)
class Recording:
    """An episode ready to be written: pictures encoded, the rest as columns."""

    source: str  # the recorder's name for it, e.g. "drawer-open-10007"
    task: str
    length: int
    size: int  # [px]
    clip: bytes
    columns: Mapping[str, NDArray[Any]]
    statistics: Mapping[str, Statistics]
    human: Human

    @property
    def key(self) -> str:
        return episode_key(self.task, self.columns["action"])


def prepare(episode: Episode, source: str) -> Recording:
    """Encode an episode; costs the time, so it is done where the episode is made."""
    state = np.concatenate([episode.ee_position_m, episode.gripper_opening[:, None]], 1)
    columns: dict[str, NDArray[Any]] = {
        "observation.state": state.astype(np.float32),
        "action": np.concatenate([episode.actions_m, episode.gripper_closed[:, None]], 1).astype(
            np.float32
        ),
        "terminate": episode.terminate.astype(np.float32),
        **{
            feature: getattr(episode, name).reshape(len(state), -1)
            for name, feature in LABELS.items()
        },
    }
    names = (*TRACK_ARRAYS, *ROBOT_ARRAYS, *TRUTH_ARRAYS)
    truth = {name: value for name in names if (value := getattr(episode, name)) is not None}
    return Recording(
        source=source,
        task=episode.task,
        length=len(episode.images),
        size=int(episode.images.shape[1]),
        clip=encode_clip(episode.images, TICK_HZ),
        columns=columns,
        statistics={key: statistics.of_values(value) for key, value in columns.items()}
        | {CAMERA: statistics.of_pictures(episode.images)},
        human=Human(encode_mp4(episode.video, _HUMAN_FPS), truth, {"backend": "simulator"}),
    )


class Recorder:
    """The one writer of a dataset; a context manager. Goes on where another stopped.

    Args:
        root: made if missing.
        part_episodes: written together.

    Raises:
        DatasetError: another recorder is at work there, or the dataset is not of this recorder.
    """

    def __init__(self, root: Path, *, part_episodes: int = PART_EPISODES) -> None:
        self.root = root
        self.part_episodes = part_episodes
        root.mkdir(parents=True, exist_ok=True)
        self._lock = (root / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DatasetError(
                f"another recorder writes into {root}; choose another --out"
            ) from None
        self._pending: list[Recording] = []
        self._tasks: list[str] = []
        self._features: dict[str, Any] = {}
        self._statistics: dict[str, Statistics] = {}
        self.episodes = self._frames = self._part = 0
        self.sources: set[str] = set()
        try:
            if (root / layout.INFO_PATH).exists():
                self._resume()
        except BaseException:
            self._lock.close()
            raise

    def _resume(self) -> None:
        if not (self.root / FILE).exists():
            raise DatasetError(f"{self.root} holds another dataset; choose another --out")
        info = layout.read_info(self.root)
        rows = layout.read_episodes(self.root, info)
        self._features = dict(info.features)
        self._tasks = layout.read_tasks(self.root)
        self._statistics = layout.read_statistics(self.root)
        self.episodes, self._frames = info.total_episodes, info.total_frames
        self._part = (
            max((row.chunk * layout.FILES_PER_CHUNK + row.file for row in rows), default=-1) + 1
        )
        self.sources = {row.source for row in rows}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending and let go of the dataset."""
        try:
            self.flush()
        finally:
            self._lock.close()

    def add(self, recording: Recording) -> None:
        """Append an episode; on disk with its part.

        Raises:
            DatasetError: its pictures or columns are shaped other than the dataset's.
        """
        features = _features(recording)
        if self._features and features != self._features:
            raise DatasetError(f"{recording.source}: other features than the episodes before it")
        self._features = features
        write_human(self.root, recording.key, recording.human)
        self._pending.append(recording)
        self.sources.add(recording.source)
        if len(self._pending) >= self.part_episodes:
            self.flush()

    def flush(self) -> None:
        """Write the pending episodes as one part."""
        if not self._pending:
            return
        part, self._pending = self._pending, []
        place = layout.numbered(self._part)
        clips = join_clips([r.clip for r in part], [r.length for r in part], TICK_HZ)
        video = layout.VIDEO_PATH.format(video_key=CAMERA, **place)
        layout.write_bytes(self.root / video, clips)
        for recording in part:
            if recording.task not in self._tasks:
                self._tasks.append(recording.task)
        layout.write_tasks(self.root, self._tasks)
        frames, rows = self._tables(part)
        layout.write_table(self.root / layout.DATA_PATH.format(**place), frames)
        layout.write_table(self.root / layout.EPISODES_PATH.format(**place), rows)
        for key in self._features:
            if key in part[0].statistics:
                new = [recording.statistics[key] for recording in part]
                old = [self._statistics[key]] if key in self._statistics else []
                self._statistics[key] = statistics.combine(old + new)
        layout.write_statistics(self.root, self._statistics)
        if not (self.root / FILE).exists():
            write_description(self.root, OUR_DESCRIPTION)
        self.episodes += len(part)
        self._frames += sum(recording.length for recording in part)
        self._part += 1
        layout.write_info(
            self.root,
            fps=TICK_HZ,
            features=self._features,
            episodes=self.episodes,
            frames=self._frames,
            tasks=len(self._tasks),
        )

    def _tables(self, part: list[Recording]) -> tuple[pa.Table, pa.Table]:
        """Rows of `data` and of `meta/episodes`."""
        place = layout.numbered(self._part)
        rows: list[dict[str, Any]] = []
        columns: dict[str, list[NDArray[Any]]] = {}
        first, before = self._frames, 0
        for index, recording in enumerate(part, self.episodes):
            length = recording.length
            ticks = np.arange(length)
            own = dict(recording.columns) | {
                "timestamp": (ticks / TICK_HZ).astype(np.float32),
                "frame_index": ticks,
                "episode_index": np.full(length, index),
                "index": first + ticks,
                "task_index": np.full(length, self._tasks.index(recording.task)),
            }
            for key, value in own.items():
                columns.setdefault(key, []).append(value)
            rows.append(
                {
                    "episode_index": index,
                    "tasks": [recording.task],
                    "length": length,
                    "data/chunk_index": place["chunk_index"],
                    "data/file_index": place["file_index"],
                    "dataset_from_index": first,
                    "dataset_to_index": first + length,
                    f"videos/{CAMERA}/chunk_index": place["chunk_index"],
                    f"videos/{CAMERA}/file_index": place["file_index"],
                    f"videos/{CAMERA}/from_timestamp": before / TICK_HZ,
                    f"videos/{CAMERA}/to_timestamp": (before + length) / TICK_HZ,
                    **{
                        f"stats/{feature}/{name}": value.tolist()
                        for feature, found in recording.statistics.items()
                        for name, value in found.items()
                    },
                    "meta/episodes/chunk_index": place["chunk_index"],
                    "meta/episodes/file_index": place["file_index"],
                    layout.SOURCE_COLUMN: recording.source,
                }
            )
            first, before = first + length, before + length
        frames = {key: np.concatenate(values).tolist() for key, values in columns.items()}
        types = {key: layout.arrow_type(self._features[key]) for key in frames}
        return (
            pa.table({key: pa.array(frames[key], types[key]) for key in frames}),
            pa.Table.from_pylist(rows),
        )


def _features(recording: Recording) -> dict[str, Any]:
    names = {
        "observation.state": [*OUR_DESCRIPTION.position, OUR_DESCRIPTION.opening],
        "action": [*OUR_DESCRIPTION.action, "gripper_closed"],
    }
    picture = {
        "dtype": "video",
        "shape": [recording.size, recording.size, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": recording.size,
            "video.width": recording.size,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": TICK_HZ,
            "video.channels": 3,
            "has_audio": False,
        },
    }
    values = {
        key: {
            "dtype": "float32",
            "shape": list(value.shape[1:]) or [1],
            "names": names.get(key),
        }
        for key, value in recording.columns.items()
    }
    return {CAMERA: picture} | values | layout.INDEX_FEATURES
