"""``gen2act-eval``: closed-loop success through the exported bundle, judged by the simulator."""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from gen2act_policy.local import LocalPolicy
from gen2act_sim import ACTIVITIES, SCENES, TASKS, DemonstrationFailed, World

from .closed_loop import StageResult, rollout
from .data.demos import FIRST_TRAINING_SEED


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson interval of a success rate."""
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def other_task(task: str) -> str:
    """Another task of the same scene, for the shuffled-video control."""
    tasks = SCENES[TASKS[task].scene]
    return tasks[(tasks.index(task) + 1) % len(tasks)]


def run_tasks(
    policy: LocalPolicy, tasks: list[str], seeds: range, *, shuffled: bool
) -> dict[str, list[StageResult]]:
    """Every task on every seed from its own start."""
    results: dict[str, list[StageResult]] = {}
    for task in tasks:
        results[task] = []
        for seed in seeds:
            world = World(TASKS[task].scene, seed)
            try:
                world.reset(task)
                video_task = other_task(task) if shuffled else None
                results[task].append(
                    rollout(world, policy, task, video_seed=seed, video_task=video_task)
                )
            except DemonstrationFailed:
                # No video could be made (a shuffled task may be impossible here): a miss.
                results[task].append(StageResult(task, False, False, False, 0, []))
            finally:
                world.close()
        good = sum(r.success for r in results[task])
        print(f"{task}: {good}/{len(results[task])}", flush=True)
    return results


def run_chain(policy: LocalPolicy, activity: str, seeds: range) -> list[list[StageResult]]:
    """Stages without a reset between them; a failed stage ends its chain."""
    chains = []
    for seed in seeds:
        tasks = ACTIVITIES[activity]
        world = World(TASKS[tasks[0]].scene, seed)
        chain: list[StageResult] = []
        try:
            for index, task in enumerate(tasks):
                if index:
                    world.go_to_reset_pose()
                chain.append(rollout(world, policy, task, video_seed=seed * 10 + index))
                if not chain[-1].success:
                    break
        except DemonstrationFailed as error:
            print(f"seed {seed}: {error}")
        finally:
            world.close()
        chains.append(chain)
        stages = " ".join(f"{r.task}:{'ok' if r.success else 'MISS'}({r.ticks})" for r in chain)
        print(f"seed {seed}: {stages}", flush=True)
    return chains


def as_markdown(report: dict[str, object], rows: dict[str, dict[str, Any]]) -> str:
    """The table of a report, misses included."""
    lines = [
        f"Bundle `{str(report['bundle'])[:12]}`, video: {report['video']}, seeds "
        f"{report['seeds']}; judged by the simulator.",
        "",
        "| task | success at the end | 95 % interval | success once | ended by terminate |",
        "|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        low, high = row["interval"]
        lines.append(
            f"| {key} | {row['success']} of {row['of']} | {low:.0%} to {high:.0%} "
            f"| {row['success_once']} | {row['terminated']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="gen2act-eval", description=__doc__)
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--tasks", default="all", help="comma-separated task ids, or 'all'")
    parser.add_argument("--activity", help="run this chain instead of single tasks")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--video", choices=["demonstrator", "shuffled"], default="demonstrator")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    if seeds.stop > FIRST_TRAINING_SEED:
        parser.error(f"seeds from {FIRST_TRAINING_SEED} on are for training")
    policy = LocalPolicy(args.bundle, threads=args.threads)
    report: dict[str, object] = {
        "bundle": policy.spec.model_hash,
        "video": args.video,
        "seeds": [seeds.start, seeds.stop - 1],
    }
    rows: dict[str, dict[str, Any]] = {}
    if args.activity:
        chains = run_chain(policy, args.activity, seeds)
        per_stage: dict[str, list[bool]] = defaultdict(list)
        for chain in chains:
            for index, task in enumerate(ACTIVITIES[args.activity]):
                per_stage[f"{index + 1} {task}"].append(index < len(chain) and chain[index].success)
        results = {
            key: [StageResult(key, ok, ok, ok, 0, []) for ok in v] for key, v in per_stage.items()
        }
    else:
        tasks = list(TASKS) if args.tasks == "all" else args.tasks.split(",")
        results = run_tasks(policy, tasks, seeds, shuffled=args.video == "shuffled")
    for key, stage_results in results.items():
        good = sum(r.success for r in stage_results)
        low, high = wilson(good, len(stage_results))
        rows[key] = {
            "success": good,
            "success_once": sum(r.success_once for r in stage_results),
            "terminated": sum(r.terminated for r in stage_results),
            "of": len(stage_results),
            "interval": [round(low, 3), round(high, 3)],
        }
        print(key, rows[key])
    report["results"] = rows
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(as_markdown(report, rows))


if __name__ == "__main__":
    main()
