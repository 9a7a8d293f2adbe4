"""``gen2act-data``: record paired episodes, or make ready a robot dataset of your own."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from pathlib import Path

from gen2act_contracts.errors import Gen2ActError
from gen2act_policy.local import LocalPolicy
from gen2act_sim import ACTIVITIES, TASKS

from ..trackers import UnknownTracker, load_tracker
from ..video_service import VideoService
from .corrections import make_corrections
from .dataset import Dataset
from .demos import FIRST_TRAINING_SEED, make_demo
from .describe import describe, only_camera, parse_bounds, summary
from .description import ACTION_KINDS, Description
from .errors import DatasetError
from .imagine import Outcome, imagine
from .recorder import Recorder, Recording, prepare


def _one(job: tuple[str, int]) -> Recording | None:
    task, seed = job
    episode = make_demo(task, seed)
    return None if episode is None else prepare(episode, f"{task}-{seed}")


def _tasks(wanted: str) -> list[str]:
    """Task ids of a comma-separated list or 'all'; leaves with the known ones otherwise."""
    tasks = list(TASKS) if wanted == "all" else [task for task in wanted.split(",") if task]
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise SystemExit(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
    return tasks


def demos(args: argparse.Namespace) -> int:
    tasks = _tasks(args.tasks)
    first = FIRST_TRAINING_SEED + args.first_seed
    wanted = [(task, first + i) for i in range(args.episodes) for task in tasks]
    # Fresh processes: an OpenGL context does not survive a fork.
    workers = multiprocessing.get_context("spawn").Pool(args.workers)
    with Recorder(Path(args.out)) as recorder, workers:
        jobs = [job for job in wanted if f"{job[0]}-{job[1]}" not in recorder.sources]
        failed, start = 0, time.monotonic()
        # In the order of the jobs: the same command gives the same dataset.
        for done, recording in enumerate(workers.imap(_one, jobs, chunksize=4), 1):
            if recording is None:
                failed += 1
            else:
                recorder.add(recording)
            if done % 20 == 0 or done == len(jobs):
                rate = done / (time.monotonic() - start)
                print(
                    f"\r{done}/{len(jobs)} episodes, {failed} dropped, {rate:.1f}/s",
                    end="",
                    flush=True,
                )
        count = len(recorder.sources)
    print(f"\n{count} episodes in {args.out}, {failed} failed demonstrations dropped")
    return 0


def corrections(args: argparse.Namespace) -> int:
    for activity in args.activity:
        if activity not in ACTIVITIES:
            raise SystemExit(f"unknown activity {activity!r}; known: {', '.join(ACTIVITIES)}")
    chains = [ACTIVITIES[name] for name in args.activity] + [(t,) for t in _tasks(args.tasks)]
    if not chains:
        raise SystemExit("nothing to do: name --tasks, --activity or both")
    policy = LocalPolicy(args.bundle, threads=1)
    made = unaided = 0
    with Recorder(Path(args.out)) as recorder:
        for i in range(args.episodes):
            seed = FIRST_TRAINING_SEED + args.first_seed + i
            for chain in chains:
                counts = make_corrections(
                    policy, chain, seed, recorder, expert_share=args.expert_share
                )
                made, unaided = made + counts[0], unaided + counts[1]
            print(
                f"\r{i + 1}/{args.episodes} runs, {made} stages, {unaided} unaided",
                end="",
                flush=True,
            )
    print()
    return 0


def describe_dataset(args: argparse.Namespace) -> int:
    root: Path = args.dataset
    action = _names(args.action)
    description = Description(
        camera=args.camera or only_camera(root),
        action=action,
        gripper=args.gripper,
        called=_names(args.called),
        kind=args.kind,
        units=_names(args.units),
        bounds=parse_bounds(args.bounds, len(action)) if args.bounds else (),
        frame=args.frame,
        position=_names(args.state),
        opening=args.opening,
        opening_range=tuple(args.opening_range or ()),
        terminate=args.terminate,
        exclude=tuple(int(index) for index in _names(args.exclude)),
    )
    print(summary(describe(root, description, margin=args.margin)))
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def imagine_videos(args: argparse.Namespace) -> int:
    dataset = Dataset(args.dataset)
    dataset.check(videos=False)
    total = len(dataset.episodes())

    def show(outcome: Outcome) -> None:
        done = outcome.there + outcome.made
        refused = f", {len(outcome.refused)} refused" if outcome.refused else ""
        print(f"\r{done}/{total} episodes have a human video{refused}", end="", flush=True)

    tracker = load_tracker(args.tracker)
    with contextlib.closing(VideoService(args.videogen, args.redis)) as service:
        outcome = imagine(
            dataset, service, tracker, backend=args.backend, seed=args.seed, progress=show
        )
    show(outcome)
    print()
    for index, reason in outcome.refused.items():
        print(f"episode {index}: {reason}", file=sys.stderr)
    if outcome.refused:
        listed = ",".join(str(index) for index in outcome.refused)
        print(
            "call again with another --seed, or leave them out with `gen2act-data describe "
            f"--exclude {listed}`",
            file=sys.stderr,
        )
    return 1 if outcome.refused else 0


def _add_describe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    say = commands.add_parser(
        "describe",
        help="say once how your own LeRobotDataset is to be read; checks all of it",
        description="Writes gen2act.json beside the data: which camera, which actions, when the "
        "gripper is closed, and the action bounds found in the data. Everything that would spoil a "
        "training run is looked for and named.",
    )
    say.add_argument("--dataset", type=Path, required=True, help="folder of a LeRobotDataset v3.0")
    say.add_argument("--camera", default="", help="its feature, e.g. observation.images.top")
    say.add_argument(
        "--action", required=True, help="end-effector dimensions by their names in `action`: x,y,z"
    )
    say.add_argument(
        "--gripper", required=True, help="when it is commanded closed, e.g. 'gripper>0.5'"
    )
    say.add_argument(
        "--kind",
        default="delta",
        choices=ACTION_KINDS,
        help="displacements per frame, or commanded poses (differences are taken)",
    )
    say.add_argument("--called", default="", help="the policy's names for the action dimensions")
    say.add_argument("--units", default="", help="m or rad for each dimension; default: all m")
    say.add_argument("--frame", default="world", help="frame of reference of the actions")
    say.add_argument(
        "--bounds", default="", help="per control period of 1/3 s: 0.05, or -0.1:0.1,... for each"
    )
    say.add_argument(
        "--margin", type=float, default=0.1, help="added on both sides of the bounds that are found"
    )
    say.add_argument("--state", default="", help="x,y,z [m] by their names in observation.state")
    say.add_argument("--opening", default="", help="the gripper's opening in observation.state")
    say.add_argument(
        "--opening-range",
        type=float,
        nargs=2,
        metavar=("SHUT", "OPEN"),
        help="its values; default: the least and the greatest in the data",
    )
    say.add_argument(
        "--terminate", default="", help="feature that is 1 where nothing is left to do"
    )
    say.add_argument("--exclude", default="", help="episodes to leave out, e.g. 3,17")
    say.set_defaults(run=describe_dataset)


def _add_imagine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fill = commands.add_parser(
        "imagine",
        help="human videos for robot data that have none, from the videogen service",
        description="For every episode without a human video: the service imagines a person doing "
        "the task in the episode's first frame, and points are tracked through it. Stored beside "
        "the data, in human/. Ended at any moment, it goes on where it was.",
    )
    fill.add_argument("--dataset", type=Path, required=True, help="a described LeRobotDataset")
    fill.add_argument("--videogen", required=True, metavar="HOST:PORT", help="the service")
    fill.add_argument(
        "--redis", default="redis://127.0.0.1:6379/0", help="the store that the service writes to"
    )
    fill.add_argument("--backend", default="", help="of the service; default: the one it prefers")
    fill.add_argument("--tracker", default="flow", help="'flow', or module:Class of your own")
    fill.add_argument("--seed", type=int, default=0, help="another seed, other videos")
    fill.set_defaults(run=imagine_videos)


def main() -> None:
    parser = argparse.ArgumentParser(prog="gen2act-data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demos", help="record paired episodes from the simulator's experts")
    demo.add_argument("--tasks", default="all", help="comma-separated task ids, or 'all'")
    demo.add_argument("--episodes", type=int, default=100, help="episodes per task")
    demo.add_argument("--first-seed", type=int, default=0, help="offset into the training seeds")
    demo.add_argument("--out", required=True, help="folder of the data set")
    demo.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    demo.set_defaults(run=demos)
    fix = commands.add_parser("corrections", help="the policy acts, the expert labels")
    fix.add_argument("--bundle", type=Path, required=True, help="the policy that acts")
    fix.add_argument(
        "--activity",
        action="append",
        default=[],
        help=f"run its stages as a chain (may be repeated): {', '.join(ACTIVITIES)}",
    )
    fix.add_argument(
        "--tasks", default="", help="task ids, each from its own start, or 'all'; comma-separated"
    )
    fix.add_argument("--episodes", type=int, default=100, help="runs of every chain and task")
    fix.add_argument("--first-seed", type=int, default=50_000, help="offset into training seeds")
    fix.add_argument("--expert-share", type=float, default=0.15, help="ticks the expert acts in")
    fix.add_argument("--out", required=True, help="folder of the data set")
    fix.set_defaults(run=corrections)
    _add_describe(commands)
    _add_imagine(commands)
    args = parser.parse_args()
    try:
        status = args.run(args)
    except (DatasetError, UnknownTracker, Gen2ActError) as error:
        raise SystemExit(f"gen2act-data: {error}") from None
    raise SystemExit(status)


if __name__ == "__main__":
    main()
