"""Reads a LeRobotDataset v3.0, ours or anybody's, as episodes of 3 Hz ticks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from . import human, layout
from .description import LABELS, TICK_HZ, Description, is_closed, parse_gripper, read_description
from .episodes import Episode
from .errors import DatasetError
from .layout import EpisodeRow
from .mp4 import decode_frames, frame_count

TERMINATE_TICKS = (
    2  # at the end, where a dataset has no feature for it: as many as serving asks for
)
_MAX_TIMING_ERROR_S = 0.05  # of a tick's frame, where the frame rate is no multiple of the tick's
_LANDMARKS = 3
_SHOWN = 8  # problems named in one message


@dataclass(frozen=True)
class EpisodeRef:
    """One episode, read when it is needed."""

    dataset: Dataset
    index: int

    @property
    def name(self) -> str:
        """Unique among datasets in different folders."""
        return f"{self.dataset.root.name}-{self.dataset.keys[self.index]}"

    @property
    def task(self) -> str:
        """In words."""
        return self.dataset.tasks[self.index]

    def load(self) -> Episode:
        return self.dataset.load(self.index)


class Dataset:
    """A LeRobotDataset with the description of how to read it.

    Args:
        root: its folder.
        description: default: `gen2act.json` in it.
        side: [px] of the square pictures handed out; the middle is cut out and resized.
        cache: decoded pictures are kept here, so that a training step reads them at memory speed;
            default: the folder's name with `.frames` added.

    Raises:
        DatasetError: not a dataset, described wrongly, or its tables do not fit together.
    """

    def __init__(
        self,
        root: Path,
        description: Description | None = None,
        *,
        side: int = 224,
        cache: Path | None = None,
    ) -> None:
        self.root = root
        self.side = side
        self.cache = cache or root.with_name(root.name + ".frames")
        self.info = layout.read_info(root)
        self.description = description or read_description(root)
        self.description.check(self.info)
        self.rows = layout.read_episodes(root, self.info)
        _check_rate(root, self.info.fps)
        self._columns = self._read_columns()
        tasks = layout.read_tasks(root)
        self.tasks = [self._task_of(row, tasks) for row in self.rows]
        self.keys = [
            human.episode_key(task, self._of(row, "action"))
            for row, task in zip(self.rows, self.tasks, strict=True)
        ]

    # ---- columns --------------------------------------------------------------------------

    def _read_columns(self) -> dict[str, NDArray[Any]]:
        """Every needed column over all frames, NaN (or -1) where a frame is missing."""
        wanted = {"action", "timestamp", "episode_index", "task_index"}
        wanted |= {name for name in ("observation.state", *LABELS.values()) if self._has(name)}
        if self.description.terminate:
            wanted.add(self.description.terminate)
        columns: dict[str, NDArray[Any]] = {}
        files = sorted({(row.chunk, row.file) for row in self.rows})
        for chunk, file in files:
            path = self.root / self.info.data_path.format(chunk_index=chunk, file_index=file)
            table = layout.read_table(path, [*sorted(wanted), "index"])
            place = _column(table, "index", [1])
            inside = place < self.info.total_frames
            for name in wanted:
                values = _column(table, name, self.info.features[name]["shape"])
                if name not in columns:
                    shape = (self.info.total_frames, *values.shape[1:])
                    empty = np.nan if values.dtype.kind == "f" else -1
                    columns[name] = np.full(shape, empty, values.dtype)
                columns[name][place[inside]] = values[inside]
        return columns

    def _has(self, feature: str) -> bool:
        return feature in self.info.features

    def _of(self, row: EpisodeRow, feature: str) -> NDArray[Any]:
        return self._columns[feature][row.first : row.first + row.length]

    def _named(self, row: EpisodeRow, feature: str, names: Sequence[str]) -> NDArray[Any]:
        """Columns [T, len(names)] of a vector feature."""
        order = [self.info.names(feature).index(name) for name in names]
        rows = self._of(row, feature)
        return rows.reshape(len(rows), -1)[:, order]

    def _task_of(self, row: EpisodeRow, tasks: list[str]) -> str:
        indices = self._of(row, "task_index")
        index = int(indices[0]) if len(indices) else -1
        return tasks[index] if 0 <= index < len(tasks) else ""

    # ---- episodes -------------------------------------------------------------------------

    def episodes(self) -> list[EpisodeRef]:
        """All but the excluded ones."""
        left_out = set(self.description.exclude)
        return [EpisodeRef(self, row.index) for row in self.rows if row.index not in left_out]

    def ticks(self, row: EpisodeRow) -> NDArray[np.int64]:
        """Frame of the episode at which each control period begins [K]."""
        count = int(np.ceil(row.length * TICK_HZ / self.info.fps - 1e-6))
        frames = np.rint(np.arange(count) * self.info.fps / TICK_HZ).astype(np.int64)
        return frames[frames < row.length]

    def actions(self, row: EpisodeRow) -> NDArray[np.float32]:
        """Displacement in each control period [K, D] in the description's units."""
        values = self._named(row, "action", self.description.action).astype(np.float64)
        begin = self.ticks(row)
        if self.description.kind == "delta":
            return np.add.reduceat(values, begin, axis=0).astype(np.float32)
        end = np.append(begin[1:], row.length) - 1
        return (values[end] - values[np.maximum(begin - 1, 0)]).astype(np.float32)

    def state(self, index: int, names: Sequence[str]) -> NDArray[Any]:
        """Named columns of `observation.state` in every frame [T, len(names)]."""
        return self._named(self.rows[index], "observation.state", names)

    def first_frame(self, index: int) -> NDArray[np.uint8]:
        """What the robot saw first, uint8 [S, S, 3]."""
        row = self.rows[index]
        return square(self._pictures(row, np.zeros(1, np.int64)), self.side)[0]

    def robot_frames(self, index: int) -> NDArray[np.uint8]:
        """What the robot saw at every tick, uint8 [K, S, S, 3]."""
        row = self.rows[index]
        return square(self._pictures(row, self.ticks(row)), self.side)

    def load(self, index: int) -> Episode:
        """Raises DatasetError: pictures or the human video are missing."""
        row, key = self.rows[index], self.keys[index]
        labels = human.read_labels(self.root, key)
        frames = self._frames(row, key)
        video_frames = labels["tracks"].shape[1]
        begin = self.ticks(row)
        robot = self._robot_columns(row, begin)
        unknown = {
            "hand_position_m": (video_frames, 3),
            "hand_closed": (video_frames,),
            "video_landmarks_m": (video_frames, _LANDMARKS, 3),
            "video_landmarks_uv": (video_frames, _LANDMARKS, 2),
        }
        for name, shape in unknown.items():
            labels.setdefault(name, np.full(shape, np.nan, np.float32))
        return Episode(
            task=self.tasks[index],
            video=frames[:video_frames],
            images=frames[video_frames:],
            **labels,
            **robot,
        )

    def _robot_columns(self, row: EpisodeRow, begin: NDArray[np.int64]) -> dict[str, Any]:
        described = self.description
        count = len(begin)
        last = np.append(begin[1:], row.length) - 1
        name = parse_gripper(described.gripper)[0]
        gripper = self._named(row, "action", [name])[:, 0]
        position = np.full((count, 3), np.nan, np.float32)
        opening = np.full(count, np.nan, np.float32)
        if described.position:
            position = self._named(row, "observation.state", described.position)[begin]
            raw = self._named(row, "observation.state", [described.opening])[begin, 0]
            shut, wide = described.opening_range or (0.0, 1.0)
            opening = np.clip((raw - shut) / (wide - shut), 0, 1)
        if described.terminate:
            flags = self._of(row, described.terminate).astype(np.float32)
            terminate = np.maximum.reduceat(flags, begin)
        else:
            terminate = (np.arange(count) >= count - TERMINATE_TICKS).astype(np.float32)
        shapes = {"landmarks_m": (count, _LANDMARKS, 3), "landmarks_uv": (count, _LANDMARKS, 2)}
        labels = {
            field: self._of(row, feature)[begin].reshape(shapes[field])
            if self._has(feature)
            else np.full(shapes[field], np.nan, np.float32)
            for field, feature in LABELS.items()
        }
        return {
            "ee_position_m": position.astype(np.float32),
            "gripper_opening": opening.astype(np.float32),
            "actions_m": self.actions(row),
            "gripper_closed": is_closed(gripper[last], described.gripper),
            "terminate": terminate,
            **labels,
        }

    # ---- pictures -------------------------------------------------------------------------

    def _frames(self, row: EpisodeRow, key: str) -> NDArray[np.uint8]:
        """Human video, then the robot's ticks: uint8 [V + K, S, S, 3], memory-mapped."""
        video = human.path_of(self.root, key)
        made = video.stat().st_mtime_ns if video.exists() else 0
        told = f"{self.description.camera} {self.side} {made}"
        version = hashlib.sha256(told.encode()).hexdigest()[:8]
        path = self.cache / f"{key}-{version}.npy"
        if not path.exists():
            shown = square(human.read_video(self.root, key), self.side)
            seen = self.robot_frames(row.index)
            self.cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                np.save(file, np.concatenate([shown, seen]))
            os.replace(temporary, path)
        frames: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return frames

    def _pictures(self, row: EpisodeRow, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Of the described camera, as stored: uint8 [len(frames), H, W, 3]."""
        camera = self.description.camera
        if self.info.features[camera]["dtype"] == "image":
            return self._stored_images(row, frames)
        span = row.spans[camera]
        times = span.start_s + frames / self.info.fps
        return decode_frames(self._video_path(row), times, 0.4 / self.info.fps)

    def _video_path(self, row: EpisodeRow) -> Path:
        span = row.spans[self.description.camera]
        return self.root / str(self.info.video_path).format(
            video_key=self.description.camera, chunk_index=span.chunk, file_index=span.file
        )

    def _stored_images(self, row: EpisodeRow, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        camera = self.description.camera
        path = self.root / self.info.data_path.format(chunk_index=row.chunk, file_index=row.file)
        table = pq.read_table(
            path, columns=[camera, "frame_index"], filters=[("episode_index", "=", row.index)]
        )
        order = np.argsort(_column(table, "frame_index", [1]))
        stored = table[camera]
        pictures = []
        for frame in frames:
            data = stored[int(order[frame])].as_py()["bytes"] if frame < len(order) else None
            picture = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), 1)
            if picture is None:
                raise DatasetError(f"{self.root}: episode {row.index} has no picture {frame}")
            pictures.append(picture[..., ::-1])
        return np.stack(pictures).astype(np.uint8)

    # ---- checks ---------------------------------------------------------------------------

    def check(self, *, videos: bool = True) -> None:
        """Look at everything that would spoil a training run, before it begins.

        Args:
            videos: the human videos must be there too.

        Raises:
            DatasetError: names the first problems and the way out of them.
        """
        left_out = set(self.description.exclude)
        rows = [row for row in self.rows if row.index not in left_out]
        if not rows:
            raise DatasetError(f"{self.root} has no episodes; record some, or exclude fewer")
        problems: list[str] = []
        spoilt: set[int] = set()
        for row in rows:
            found = self._problem(row)
            if found:
                problems.append(f"episode {row.index}: {found}")
                spoilt.add(row.index)
        problems += self._missing_frames(rows)
        if problems:
            shown = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
            more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            listed = ",".join(str(index) for index in sorted(spoilt | left_out))
            way_out = (
                f"\nRecord them again, or leave them out: `gen2act-data describe --dataset "
                f"{self.root} ... --exclude {listed}`"
            )
            raise DatasetError(
                f"{self.root} cannot be trained on:{shown}{more}{way_out if spoilt else ''}"
            )
        if videos:
            self._check_videos(rows)

    def _problem(self, row: EpisodeRow) -> str:
        if row.length == 0:
            return "has no frames"
        present = int((self._of(row, "episode_index") == row.index).sum())
        if present != row.length:
            return f"{row.length - present} of its {row.length} frames are missing in data/"
        if len(self.ticks(row)) < 2:
            return (
                f"lasts {row.length / self.info.fps:.2f} s, less than two control periods of "
                f"1/{TICK_HZ} s"
            )
        if not self.tasks[row.index]:
            return "has no task text in meta/tasks.parquet"
        step_s = np.diff(self._of(row, "timestamp"))
        wrong = np.flatnonzero(np.abs(step_s * self.info.fps - 1) > 0.1)
        if len(wrong):
            return (
                f"frame {wrong[0] + 1} comes {step_s[wrong[0]]:.4f} s after the one before it, "
                f"but meta/info.json says {self.info.fps:g} frames/s: fps is wrong or frames are "
                "missing"
            )
        for feature, names in self._read_names().items():
            values = self._named(row, feature, names)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                frame, dimension = bad[0]
                return (
                    f"{feature} {names[dimension]!r} is {values[frame, dimension]} in frame {frame}"
                )
        return ""

    def _read_names(self) -> dict[str, list[str]]:
        described = self.description
        names = {"action": [*described.action, parse_gripper(described.gripper)[0]]}
        if described.position:
            names["observation.state"] = [*described.position, described.opening]
        return names

    def _missing_frames(self, rows: list[EpisodeRow]) -> list[str]:
        """Video files that are missing or shorter than the tables say."""
        camera = self.description.camera
        if self.info.features[camera]["dtype"] == "image":
            return []
        needed: dict[Path, int] = {}
        for row in self.rows:
            path = self._video_path(row)
            needed[path] = needed.get(path, 0) + row.length
        used = {self._video_path(row) for row in rows}
        problems = []
        for path in sorted(used):
            try:
                count = frame_count(path)
            except DatasetError as error:
                problems.append(str(error))
                continue
            if count < needed[path]:
                problems.append(
                    f"{path} has {count} frames, its episodes {needed[path]}: frames are missing; "
                    "copy or record it again"
                )
        return problems

    def _check_videos(self, rows: list[EpisodeRow]) -> None:
        lacking = [r.index for r in rows if not human.has_human(self.root, self.keys[r.index])]
        if lacking:
            raise DatasetError(
                f"{self.root}: {len(lacking)} of {len(rows)} episodes have no human video (first: "
                f"{lacking[0]}); fill them in with `gen2act-data imagine --dataset {self.root} "
                "--videogen HOST:PORT`"
            )


def square(frames: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle square of the pictures [T, H, W, 3], resized to `side`."""
    height, width = frames.shape[1:3]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = frames[:, top : top + edge, left : left + edge]
    if edge == side:
        return np.ascontiguousarray(middle)
    how = cv2.INTER_AREA if edge > side else cv2.INTER_LINEAR
    resized = [cv2.resize(frame, (side, side), interpolation=how) for frame in middle]
    return np.stack(resized).astype(np.uint8)


def _check_rate(root: Path, fps: float) -> None:
    """Raises DatasetError: 3 Hz ticks cannot be cut from this frame rate."""
    if fps < TICK_HZ or (fps % TICK_HZ and 0.5 / fps > _MAX_TIMING_ERROR_S):
        raise DatasetError(
            f"{root} has {fps:g} frames/s; control periods of 1/{TICK_HZ} s can be cut from a "
            f"multiple of {TICK_HZ} frames/s, or from any rate of at least "
            f"{0.5 / _MAX_TIMING_ERROR_S:g}: convert it, or correct fps in meta/info.json"
        )


def _column(table: pa.Table, name: str, shape: Sequence[int]) -> NDArray[Any]:
    """Rows of a feature: [T] for a scalar, else [T, *shape]."""
    if name not in table.column_names:
        raise DatasetError(f"data has no column {name!r}, only {table.column_names}")
    array: Any = table[name].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.float32())
    while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if list(shape) == [1]:
        return values
    if len(values) != len(table) * int(np.prod(shape)):
        raise DatasetError(
            f"data column {name!r} has {len(values)} values in {len(table)} rows, expected "
            f"{list(shape)} each"
        )
    return values.reshape(len(table), *shape)
