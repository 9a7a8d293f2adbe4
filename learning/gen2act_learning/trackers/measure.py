"""How far a tracker is from the simulator's truth: `python -m gen2act_learning.trackers.measure`.

Over human videos and robot demonstrations of the same initial scenes. `delta` is the share of truly
visible points nearer than 1, 2, 4, 8 and 16 px of a 256 px picture, averaged, as in TAP-Vid;
`moved` are points that truly move by more than 4 px. A point that stays where it is would be found
by a tracker that does nothing, so that tracker's row stands beside.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen2act_sim import TASKS, DemonstrationFailed, World, human_video, robot_demo
from gen2act_sim import Tracks as SimulatorTracks

from .plugin import load_tracker
from .protocol import Tracker, Tracks
from .truth import SimulatorTruth

POINTS = 32
MOVED_PX = 4.0
_BOUNDS_PX = (1, 2, 4, 8, 16)  # of 256


@dataclass(frozen=True)
class Video:
    """One video with the simulator's truth about it."""

    kind: str  # "human" or "robot"
    frames: NDArray[np.uint8]
    truth: SimulatorTruth


@dataclass(frozen=True)
class Compared:
    """Of every point in every frame but the first, over all videos."""

    error_px: NDArray[np.float64]
    moved: NDArray[np.bool_]
    truly: NDArray[np.bool_]  # visible in truth
    said: NDArray[np.bool_]  # visible, says the tracker
    side: int

    def row(self) -> dict[str, float]:
        """The table's columns; errors in px of the picture, shares in [0, 1]."""
        near = [self.error_px * 256 / self.side < bound for bound in _BOUNDS_PX]
        used = self.truly & self.said
        return {
            "median_px": float(np.median(self.error_px[self.truly])),
            "mean_px": float(self.error_px[self.truly].mean()),
            "moved_median_px": float(np.median(self.error_px[self.truly & self.moved])),
            "delta": float(np.mean([n[self.truly].mean() for n in near])),
            "moved_delta": float(np.mean([n[self.truly & self.moved].mean() for n in near])),
            "used_mean_px": float(self.error_px[used].mean()),
            "used_moved_mean_px": float(self.error_px[used & self.moved].mean()),
            "visible_precision": float(self.truly[self.said].mean()),
            "visible_recall": float(self.said[self.truly].mean()),
            "moved_recall": float(self.said[self.truly & self.moved].mean()),
        }


class Stay:
    """The tracker that does nothing: the row to beat."""

    def track(self, frames: NDArray[np.uint8], points: NDArray[np.float32]) -> Tracks:
        places = np.repeat(points[:, None], len(frames), axis=1)
        return Tracks(places, np.ones(places.shape[:2], bool))


def videos(tasks: Iterable[str], seeds: Iterable[int]) -> Iterator[Video]:
    """A human video and a robot demonstration for every task and seed whose experts succeed."""
    for task in tasks:
        for seed in seeds:
            world = World(TASKS[task].scene, seed)
            world.reset(task)
            state = world.get_state()
            side = world.image_size
            try:
                human = human_video(state, task, seed + 1, points=POINTS)
                demo = robot_demo(world, task, seed, noise=0.01, points=POINTS)
            except DemonstrationFailed:
                continue
            finally:
                world.close()
            known = SimulatorTracks(human.points0_px, human.tracks_px, human.visible)
            yield Video("human", human.frames, SimulatorTruth(known, side))
            assert demo.tracks is not None
            yield Video("robot", demo.images, SimulatorTruth(demo.tracks, side))


def compare(tracker: Tracker, shown: Iterable[Video]) -> Compared:
    """Every point of the videos, tracked and true."""
    parts: list[tuple[NDArray[Any], ...]] = []
    side = 1
    for video in shown:
        side = video.frames.shape[1]
        truth = video.truth.track(video.frames, video.truth.points)
        found = tracker.track(video.frames, video.truth.points)
        visible = truth.visible[:, :1]  # a point hidden from the start cannot be followed
        error = np.linalg.norm(found.places - truth.places, axis=-1) * side
        travelled = np.linalg.norm(truth.places - truth.places[:, :1], axis=-1).max(1) * side
        moved = np.broadcast_to(travelled[:, None] > MOVED_PX, error.shape)
        columns = error, moved, truth.visible & visible, found.visible & visible
        parts.append(tuple(column[:, 1:].ravel() for column in columns))
    error, moved, truly, said = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Compared(error, moved.astype(bool), truly.astype(bool), said.astype(bool), side)


def table(rows: dict[str, dict[str, float]]) -> str:
    """As Markdown."""
    columns = {
        "median_px": "median [px]",
        "mean_px": "mean [px]",
        "moved_median_px": "moved: median [px]",
        "delta": "delta",
        "moved_delta": "moved: delta",
        "used_mean_px": "said visible: mean [px]",
        "used_moved_mean_px": "said visible, moved: mean [px]",
        "visible_precision": "visible: precision",
        "visible_recall": "recall",
        "moved_recall": "moved: recall",
    }
    lines = [f"| tracker, videos | {' | '.join(columns.values())} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = [
            f"{row[key]:.2f}" if key.endswith("px") else f"{100 * row[key]:.1f} %"
            for key in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracker", default="flow", help="'flow' or module:Class")
    parser.add_argument("--tasks", default="all", help="comma-separated task ids, or 'all'")
    parser.add_argument("--seeds", type=int, default=8, help="initial scenes per task")
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    args = parser.parse_args()
    tasks = list(TASKS) if args.tasks == "all" else args.tasks.split(",")
    shown = list(videos(tasks, range(args.first_seed, args.first_seed + args.seeds)))
    tracker = load_tracker(args.tracker)
    rows: dict[str, dict[str, float]] = {}
    spent_s = 0.0
    for kind in ("human", "robot"):
        these = [video for video in shown if video.kind == kind]
        begin = time.process_time()
        rows[f"{args.tracker}, {len(these)} {kind}"] = compare(tracker, these).row()
        spent_s += time.process_time() - begin
        rows[f"stay, {len(these)} {kind}"] = compare(Stay(), these).row()
    print(table(rows))
    result = {
        "tasks": tasks,
        "seeds": [args.first_seed, args.first_seed + args.seeds - 1],
        "points": POINTS,
        "cpu_ms_per_video": round(1000 * spent_s / len(shown), 1),
        "rows": {name: {k: round(v, 4) for k, v in row.items()} for name, row in rows.items()},
    }
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
