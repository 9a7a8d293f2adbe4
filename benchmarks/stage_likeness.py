"""How alike a stage's last frames and the next stage's scene are: where `--speculate` may help.

    python benchmarks/stage_likeness.py --keep

The expert does the stages of every activity with more than one, in the simulator. At each stage's
end, as share of the picture that is clearly different (the orchestrator's own measure):

    arm       the tick at which terminate becomes likely → the scene after the reset
    noise     the scene after the reset → the same scene one tick later, encoded again
    moved     the scene before the stage → the scene after it: what the stage changed

A video of the earlier frame may be used if the change is between noise and moved. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from report import publish

from gen2act_contracts import frames, pb
from gen2act_contracts.frames import Frame
from gen2act_demo.seeds import parse_seeds
from gen2act_orchestrator.adapters.likeness import changed_share
from gen2act_orchestrator.domain.foresight import Foresight
from gen2act_sim import ACTIVITIES, TASKS, World

MAX_TICKS = 40


def jpeg(pixels: npt.NDArray[np.uint8]) -> pb.common.Image:
    return frames.encode_jpeg(Frame(pixels))


def stage_ends(tasks: tuple[str, ...], seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Every stage's task, but the last one's, and the shares that changed."""
    world = World(TASKS[tasks[0]].scene, seed)
    world.reset(tasks[0])
    world.go_to_reset_pose()
    before = jpeg(world.observe().image)
    for task in tasks[:-1]:
        world.begin_stage(task)
        for _ in range(MAX_TICKS):
            if world.expert_done():
                break
            world.step(*world.expert_action())
        likely_over = jpeg(world.observe().image)
        world.go_to_reset_pose()
        after = jpeg(world.observe().image)
        world.hold()
        yield (
            task,
            {
                "arm": changed_share(likely_over, after),
                "noise": changed_share(after, jpeg(world.observe().image)),
                "moved": changed_share(before, after),
            },
        )
        before = after
    world.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("300-304"))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for tasks in ACTIVITIES.values():
        for seed in arguments.seeds if len(tasks) > 1 else ():
            for task, shares in stage_ends(tasks, seed):
                print(task, seed, {name: round(share, 4) for name, share in shares.items()})
                found.setdefault(task, []).append(shares)
    rows = [shares for each in found.values() for shares in each]
    threshold = Foresight.largest_change
    result = {
        "stage_ends": len(rows),
        "threshold": threshold,
        "would_be_used": sum(shares["arm"] <= threshold for shares in rows),
        "changed": {
            name: {
                "min": round(min(shares[name] for shares in rows), 4),
                "median": round(statistics.median(shares[name] for shares in rows), 4),
                "max": round(max(shares[name] for shares in rows), 4),
            }
            for name in ("arm", "noise", "moved")
        },
        "median_by_task": {
            task: {
                name: round(statistics.median(shares[name] for shares in each), 4)
                for name in ("arm", "noise", "moved")
            }
            for task, each in found.items()
        },
    }
    publish("stage_likeness", result, arguments.keep)


if __name__ == "__main__":
    main()
