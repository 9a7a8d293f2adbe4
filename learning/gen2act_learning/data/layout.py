"""The files of a LeRobotDataset v3.0, as the `lerobot` tools write and read them.

    meta/info.json                              features, frame rate, totals, path templates
    meta/stats.json                             statistics of every feature
    meta/tasks.parquet                          task texts and their indices
    meta/episodes/chunk-000/file-000.parquet    one row per episode: where its frames lie
    data/chunk-000/file-000.parquet             one row per frame, without pictures
    videos/KEY/chunk-000/file-000.mp4           pictures of camera KEY, episodes one after another

Written over pyarrow, because lerobot itself needs torchvision, diffusers and a hub client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import DatasetError

VERSION = "v3.0"
FILES_PER_CHUNK = 1000
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
EPISODES_PATH = f"meta/episodes/{_FILE}.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
SOURCE_COLUMN = "source"  # of an episode: the recorder's own name for it

_CONVERTER = "python -m lerobot.datasets.v30.convert_dataset_v21_to_v30"
# The columns that every dataset has beside its own features.
INDEX_FEATURES: dict[str, dict[str, Any]] = {
    name: {"dtype": dtype, "shape": [1], "names": None}
    for name, dtype in (
        ("timestamp", "float32"),
        ("frame_index", "int64"),
        ("episode_index", "int64"),
        ("index", "int64"),
        ("task_index", "int64"),
    )
}


@dataclass(frozen=True)
class Info:
    """What `meta/info.json` says."""

    fps: float
    total_episodes: int
    total_frames: int
    features: Mapping[str, Mapping[str, Any]]
    data_path: str
    video_path: str | None

    @property
    def cameras(self) -> list[str]:
        """Features that hold pictures, as video or as images."""
        return [key for key, value in self.features.items() if value["dtype"] in ("video", "image")]

    def names(self, feature: str) -> list[str]:
        """Names of a vector feature's dimensions; numbered where the dataset has none."""
        names = self.features[feature].get("names")
        while isinstance(names, dict):  # {"motors": [...]}, or {"x": 0, "y": 1}
            values = list(names.values())
            names = values[0] if values and isinstance(values[0], list) else list(names)
        count = int(self.features[feature]["shape"][0])
        return [str(n) for n in names] if names else [f"{feature}.{i}" for i in range(count)]


@dataclass(frozen=True)
class Span:
    """Where an episode's pictures lie: a file, and when in it [s]."""

    chunk: int
    file: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class EpisodeRow:
    """One episode's row of `meta/episodes`."""

    index: int
    length: int  # frames
    first: int  # of its frames, in the whole dataset
    chunk: int
    file: int
    spans: Mapping[str, Span]  # by camera
    source: str  # recorder's name; "" in other people's datasets


def numbered(part: int) -> dict[str, int]:
    """Chunk and file index of the n-th file of a kind."""
    return {"chunk_index": part // FILES_PER_CHUNK, "file_index": part % FILES_PER_CHUNK}


def read_info(root: Path) -> Info:
    """Raises DatasetError: no dataset there, or of another version."""
    path = root / INFO_PATH
    if not path.exists():
        raise DatasetError(
            f"{root} is no LeRobotDataset: {INFO_PATH} is missing; make one with "
            f"`gen2act-data demos --out {root}` or name the folder that holds `meta`"
        )
    try:
        raw = json.loads(path.read_text())
        version = str(raw["codebase_version"])
        if not version.startswith("v3."):
            raise DatasetError(
                f"{root} is a LeRobotDataset {version}, expected {VERSION}; convert it with "
                f"`{_CONVERTER}`"
            )
        return Info(
            fps=float(raw["fps"]),
            total_episodes=int(raw["total_episodes"]),
            total_frames=int(raw["total_frames"]),
            features=raw["features"],
            data_path=str(raw["data_path"]),
            video_path=raw.get("video_path"),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {type(error).__name__} {error}") from None


def read_episodes(root: Path, info: Info) -> list[EpisodeRow]:
    """The rows of `meta/episodes` in order.

    Rows beyond `info.total_episodes` are of a recorder that was killed while it wrote: left out.

    Raises:
        DatasetError: episodes are missing.
    """
    tables = [read_table(path) for path in sorted((root / "meta/episodes").glob("*/*.parquet"))]
    rows = [row for table in tables for row in _without_stats(table).to_pylist()]
    rows = sorted(rows, key=lambda row: int(row["episode_index"]))[: info.total_episodes]
    found = [int(row["episode_index"]) for row in rows]
    if found != list(range(info.total_episodes)):
        lacking = sorted(set(range(info.total_episodes)) - set(found))[:5]
        raise DatasetError(
            f"{root}: {INFO_PATH} speaks of {info.total_episodes} episodes, meta/episodes of "
            f"{len(found)}; missing: {lacking}. Copy the dataset again, whole"
        )
    return [_episode_row(row, info) for row in rows]


def _without_stats(table: pa.Table) -> pa.Table:
    return table.select([n for n in table.column_names if not n.startswith("stats/")])


def _episode_row(row: Mapping[str, Any], info: Info) -> EpisodeRow:
    videos = [key for key in info.cameras if info.features[key]["dtype"] == "video"]
    return EpisodeRow(
        index=int(row["episode_index"]),
        length=int(row["length"]),
        first=int(row["dataset_from_index"]),
        chunk=int(row["data/chunk_index"]),
        file=int(row["data/file_index"]),
        spans={
            key: Span(
                int(row[f"videos/{key}/chunk_index"]),
                int(row[f"videos/{key}/file_index"]),
                float(row[f"videos/{key}/from_timestamp"]),
                float(row[f"videos/{key}/to_timestamp"]),
            )
            for key in videos
        },
        source=str(row.get(SOURCE_COLUMN) or ""),
    )


def read_tasks(root: Path) -> list[str]:
    """Task texts by task index."""
    table = read_table(root / TASKS_PATH)
    text = next(n for n in table.column_names if n != "task_index")
    pairs = zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True)
    return [str(task) for _, task in sorted(pairs)]


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Raises DatasetError: missing, or no readable parquet (its recorder was not finalised)."""
    try:
        return pq.ParquetFile(path).read(columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; copy the dataset again, whole") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); was the recording finalised "
            "(`LeRobotDataset.finalize()`) and copied whole?"
        ) from None


def write_table(path: Path, table: pa.Table) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, compression="snappy")
    os.replace(temporary, path)


def write_bytes(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    write_bytes(path, json.dumps(value, indent=4, ensure_ascii=False).encode())


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """As pandas writes a frame whose index is the task text: that is how lerobot looks one up."""
    index = "__index_level_0__"
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: list(tasks)})
    names = {"encoding": "UTF-8"}

    def column(name: str | None, field: str | None, pandas: str, numpy: str) -> dict[str, Any]:
        described = {"name": name, "field_name": field, "pandas_type": pandas, "numpy_type": numpy}
        return described | {"metadata": None if field else names}

    pandas = {
        "index_columns": [index],
        "column_indexes": [column(None, None, "unicode", "object")],
        "columns": [
            column("task_index", "task_index", "int64", "int64"),
            column(None, index, "unicode", "object"),
        ],
        "pandas_version": "2.0.0",
    }
    table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    write_table(root / TASKS_PATH, table)


def write_info(
    root: Path,
    *,
    fps: int,
    features: Mapping[str, Any],
    episodes: int,
    frames: int,
    tasks: int,
) -> None:
    """Makes everything written before it part of the dataset."""
    info = {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }
    write_json(root / INFO_PATH, info)


def write_statistics(root: Path, values: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
    plain = {key: {k: v.tolist() for k, v in found.items()} for key, found in values.items()}
    write_json(root / STATS_PATH, plain)


def read_statistics(root: Path) -> dict[str, dict[str, NDArray[Any]]]:
    raw = json.loads((root / STATS_PATH).read_text())
    return {key: {k: np.array(v) for k, v in found.items()} for key, found in raw.items()}


def arrow_type(feature: Mapping[str, Any]) -> pa.DataType:
    """Of a feature's column: a scalar or a vector."""
    kind = pa.from_numpy_dtype(np.dtype(feature["dtype"]))
    (size,) = feature["shape"]
    return kind if size == 1 else pa.list_(kind, size)
