"""Look at what it makes: `python -m gen2act_sim sheet --task coffee-push --out sheet.png`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from gen2act_sim import SCENES, TASKS, HumanVideo, SimError, World, human_video, robot_demo
from gen2act_sim.rendering import U8


def _row(frames: U8, columns: int) -> U8:
    chosen = np.rint(np.linspace(0, len(frames) - 1, columns)).astype(int)
    row: U8 = np.concatenate([frames[i] for i in chosen], axis=1)
    return row


def _mark_tracks(video: HumanVideo) -> U8:
    tracks_px, visible = video.tracks_px, video.visible
    marked = video.frames.copy()
    count, size = marked.shape[:2]
    for point in range(tracks_px.shape[0]):
        colour = np.array([255, 40, 40]) if point % 2 else np.array([255, 255, 0])
        for frame in range(count):
            x, y = np.rint(tracks_px[point, frame]).astype(int)
            if visible[point, frame] and 1 <= x < size - 1 and 1 <= y < size - 1:
                marked[frame, y - 1 : y + 2, x - 1 : x + 2] = colour
    return marked


def _sheet(arguments: argparse.Namespace) -> None:
    """One PNG: upper row the robot's episode, lower row the human video of the same scene."""
    world = World(TASKS[arguments.task].scene, arguments.seed)
    world.reset(arguments.task)
    state = world.get_state()
    episode = robot_demo(world, arguments.task, arguments.seed, noise=arguments.noise)
    video = human_video(state, arguments.task, arguments.human_seed, points=arguments.points)
    frames = _mark_tracks(video)
    sheet = np.concatenate([_row(episode.images, 8), _row(frames, 8)], axis=0)
    Image.fromarray(sheet).save(arguments.out)
    print(
        f"{arguments.out}: robot {len(episode.images)} ticks, success {episode.success};"
        f" human {len(video.frames)} frames at {video.fps:.1f}/s"
    )


def _chain(arguments: argparse.Namespace) -> None:
    """Success of the experts over whole chains without a reset, through policy ticks."""
    for scene in [arguments.scene] if arguments.scene else SCENES:
        tasks = SCENES[scene]
        wins = dict.fromkeys(tasks, 0)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            world = World(scene, seed)
            for stage, task in enumerate(tasks):
                if stage:
                    world.go_to_reset_pose()
                world.begin_stage(task)
                for _ in range(40):
                    if world.expert_done():
                        break
                    world.step(*world.expert_action())
                wins[task] += world.success()
        print(scene, {task: f"{won}/{arguments.seeds}" for task, won in wins.items()})


def main() -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(prog="gen2act_sim", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="contact sheet of a robot episode and a human video")
    sheet.add_argument("--task", choices=list(TASKS), required=True)
    sheet.add_argument("--seed", type=int, default=0)
    sheet.add_argument("--human-seed", type=int, default=0)
    sheet.add_argument("--noise", type=float, default=0.0, help="metres, see robot_demo")
    sheet.add_argument("--points", type=int, default=0, help="draw so many ground-truth tracks")
    sheet.add_argument("--out", type=Path, required=True)
    sheet.set_defaults(run=_sheet)
    chain = commands.add_parser("chain", help="expert success over chains without reset")
    chain.add_argument("--scene", default="")
    chain.add_argument("--seeds", type=int, default=20)
    chain.add_argument("--first-seed", type=int, default=0)
    chain.set_defaults(run=_chain)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except SimError as error:
        print(f"gen2act_sim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
