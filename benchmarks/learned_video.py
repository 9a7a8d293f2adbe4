"""Seconds per video of the learned video model, and a sheet of what it makes.

    python benchmarks/learned_video.py --sheet docs/results/learned-video.png --keep

Every task of the bundle in scenes of the simulator that no training used, on one and on two
threads of ONNX Runtime. On the sheet there are two rows a task: what the simulator's demonstrator
shows, and what the model makes of the first picture (the robot's view) and the words. The last line
is one JSON object; times in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image
from report import publish

from gen2act_demo.seeds import parse_seeds
from gen2act_sim import TASKS, World, human_video
from gen2act_videogen.imagination import Imagination

FRAMES = 16
SHOWN = (0, 3, 5, 7, 9, 11, 13, 15)
SHEET_SIDE_PX = 128


def a_scene(task: str, seed: int) -> tuple[np.ndarray, bytes]:
    """What the robot sees before the task, and the simulator's state."""
    world = World(TASKS[task].scene, seed)
    world.reset(task)
    picture, state = world.observe().image, world.get_state()
    world.close()
    return picture, state


def sheet(model: Imagination, tasks: list[str], seed: int) -> Image.Image:
    """Robot's view, then demonstrator above model, for every task."""
    rows = []
    for task in tasks:
        scene, state = a_scene(task, seed)
        shown = human_video(state, task, seed).frames
        made = model.imagine(TASKS[task].instruction, scene, seed, FRAMES, lambda _: None)
        for first, video in ((scene, shown), (np.full_like(scene, 255), made)):
            rows.append(np.concatenate([first, *video[list(SHOWN)]], axis=1))
    full = Image.fromarray(np.concatenate(rows))
    width, height = (side * SHEET_SIDE_PX // model.image_size for side in full.size)
    return full.resize((width, height), Image.Resampling.BILINEAR)


def seconds(bundle: Path, threads: int, tasks: list[str], seeds: list[int]) -> dict[str, float]:
    """Of a whole video, without encoding and storing."""
    model = Imagination(bundle, threads)
    taken = []
    for seed in seeds:
        for task in tasks:
            scene, _ = a_scene(task, seed)
            started = time.perf_counter()
            model.imagine(TASKS[task].instruction, scene, seed, FRAMES, lambda _: None)
            taken.append(time.perf_counter() - started)
    taken = taken[1:]  # the first allocates
    return {
        "videos": len(taken),
        "median": round(statistics.median(taken), 3),
        "worst": round(max(taken), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("models/imagination"))
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("2000-2001"))
    parser.add_argument("--sheet", type=Path, help="write the sheet here (PNG)")
    parser.add_argument("--keep", action="store_true", help="also write benchmarks/results/")
    args = parser.parse_args()
    model = Imagination(args.bundle, 1)
    known = {info.instruction: task for task, info in TASKS.items()}
    tasks = [known[each] for each in model.instructions]
    if args.sheet:
        sheet(model, tasks, args.seeds[0]).save(args.sheet, optimize=True)
    result = {
        "bundle": model.version,
        "bytes": sum(path.stat().st_size for path in args.bundle.glob("*.onnx")),
        "tasks": len(tasks),
        "one_thread": seconds(args.bundle, 1, tasks, args.seeds),
        "two_threads": seconds(args.bundle, 2, tasks, args.seeds),
    }
    publish("learned_video", result, keep=args.keep)


if __name__ == "__main__":
    main()
