"""``gen2act-data``: record paired episodes, in parallel and resumable."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

from gen2act_policy.local import LocalPolicy
from gen2act_sim import ACTIVITIES, TASKS

from .corrections import make_corrections
from .demos import FIRST_TRAINING_SEED, make_demo


def _one(job: tuple[str, int, str]) -> bool:
    task, seed, folder = job
    return make_demo(task, seed, Path(folder))


def _tasks(wanted: str) -> list[str]:
    """Task ids of a comma-separated list or 'all'; leaves with the known ones otherwise."""
    tasks = list(TASKS) if wanted == "all" else [task for task in wanted.split(",") if task]
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise SystemExit(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
    return tasks


def demos(args: argparse.Namespace) -> int:
    tasks = _tasks(args.tasks)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    first = FIRST_TRAINING_SEED + args.first_seed
    jobs = [(t, first + i, str(folder)) for i in range(args.episodes) for t in tasks]
    failed, start = 0, time.monotonic()
    # Fresh processes: an OpenGL context does not survive a fork.
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for done, ok in enumerate(pool.imap_unordered(_one, jobs, chunksize=4), 1):
            failed += not ok
            if done % 20 == 0 or done == len(jobs):
                rate = done / (time.monotonic() - start)
                print(
                    f"\r{done}/{len(jobs)} episodes, {failed} dropped, {rate:.1f}/s",
                    end="",
                    flush=True,
                )
    print(f"\n{len(jobs) - failed} episodes in {folder}, {failed} failed demonstrations dropped")
    return 0


def corrections(args: argparse.Namespace) -> int:
    for activity in args.activity:
        if activity not in ACTIVITIES:
            raise SystemExit(f"unknown activity {activity!r}; known: {', '.join(ACTIVITIES)}")
    chains = [ACTIVITIES[name] for name in args.activity] + [(t,) for t in _tasks(args.tasks)]
    if not chains:
        raise SystemExit("nothing to do: name --tasks, --activity or both")
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    policy = LocalPolicy(args.bundle, threads=1)
    made = unaided = 0
    for i in range(args.episodes):
        seed = FIRST_TRAINING_SEED + args.first_seed + i
        for chain in chains:
            counts = make_corrections(policy, chain, seed, folder, expert_share=args.expert_share)
            made, unaided = made + counts[0], unaided + counts[1]
        print(
            f"\r{i + 1}/{args.episodes} runs, {made} stages, {unaided} unaided", end="", flush=True
        )
    print()
    return 0


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
    args = parser.parse_args()
    raise SystemExit(args.run(args))


if __name__ == "__main__":
    main()
