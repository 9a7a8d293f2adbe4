"""From the last frame of a stage to the first action of the next, with its parts.

    python benchmarks/stage_gap.py --seeds 100-104 --keep

Runs an activity through the whole system (separate processes, simulated robot in real time), first
as it is, then with `GEN2ACT_SPECULATE`, and reads the times of its events. The last line is one
JSON object; times in seconds. `speculated` says how many of the early videos were used.

Parts of a gap, in order:
    close     last tick's report → the stage is over (end of rollout, last frame, verdict)
    begin     → the robot is told to go to its reset pose (written to Redis before)
    reset     → the scene frame is here (the simulated arm moves out of view)
    video     → the human video is stored (made by the service's default backend, `learned`)
    goal      → the goal tokens are ready (16 frames encoded, resampled)
    start     → the report of the first action of the next stage (one inference, one tick)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from report import publish

from gen2act_demo import ports
from gen2act_demo.api import Api
from gen2act_demo.processes import System, service_checks
from gen2act_demo.run import ROBOT_ID, START_TIMEOUT_S, TASK_TIMEOUT_S
from gen2act_demo.seeds import parse_seeds

# The parts of a gap, each named by the event that ends it.
PARTS = {
    "close": "stage.done",
    "begin": "stage.resetting",
    "reset": "stage.imagining",
    "video": "stage.preparing",
    "goal": "stage.rolling_out",
    "start": "stage.tick",
}


def gaps(events: Iterable[tuple[str, int | None, float]]) -> list[dict[str, float]]:
    """Gaps between consecutive stages.

    Args:
        events: (type, number of the stage, time [s]) in order.

    Returns:
        Per gap the seconds of each part and `total`; the gap before the first stage is none.
    """
    found: list[dict[str, float]] = []
    last_tick = last_end = None
    open_gap: dict[str, float] = {}
    waiting = list(PARTS)
    for kind, _stage, at in events:
        if waiting and waiting[0] != "close" and kind == PARTS[waiting[0]] and last_end is not None:
            open_gap[waiting.pop(0)] = at - last_end
            last_end = at
            if not waiting:
                open_gap["total"] = sum(open_gap.values())
                found.append(open_gap)
        if kind == "stage.tick":
            last_tick = at
        elif kind == "stage.done" and last_tick is not None:
            open_gap, waiting, last_end = {"close": at - last_tick}, list(PARTS)[1:], at
    return found


def measure(
    root: Path, activity: str, seeds: list[int], log: Path, *, speculate: bool
) -> tuple[list[dict[str, float]], list[dict[str, Any]]]:
    """The gaps of one task per seed, whatever the simulator's verdict, and the early videos."""
    chosen = ports.choose()
    api = Api(chosen.http_url)
    found: list[dict[str, float]] = []
    early: list[dict[str, Any]] = []
    options = {
        "ROBOT_OPTIONS": f"--seed {seeds[0]}",
        "GEN2ACT_SPECULATE": str(speculate).lower(),
        # A stage that the policy does not end is followed by the next one all the same.
        "GEN2ACT_BUDGET_FAILS_TASK": "false",
    }
    with System(root, chosen, log, environment=options) as system:
        checks = [*service_checks(chosen), api.robot_attached(ROBOT_ID)]
        system.wait_until_ready(checks, timeout_s=START_TIMEOUT_S)
        for seed in seeds:
            task_id = api.submit(activity, ROBOT_ID, seed=seed)
            times = []
            for event in api.events(task_id, timeout_s=TASK_TIMEOUT_S):
                payload: dict[str, Any] = json.loads(event.data)
                if event.event == "video.speculated":
                    early.append(payload["data"])
                times.append((event.event, payload.get("stage"), float(payload["at"])))
            found += gaps(times)
    api.close()
    return found, early


def summary(found: list[dict[str, float]]) -> dict[str, Any]:
    names = [*PARTS, "total"]
    return {
        "gaps": len(found),
        "median_s": {n: round(statistics.median(g[n] for g in found), 3) for n in names},
        "max_s": {n: round(max(g[n] for g in found), 3) for n in names},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activity", default="make coffee")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("100-104"))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"activity": arguments.activity}
    for name in ("plain", "speculate"):
        with tempfile.TemporaryDirectory() as folder:
            found, early = measure(
                Path.cwd(),
                arguments.activity,
                arguments.seeds,
                Path(folder) / "log",
                speculate=name == "speculate",
            )
        if not found:
            print("no task came to a second stage", file=sys.stderr)
            return 1
        for gap in found:
            print(name, "  ".join(f"{part} {seconds:6.3f}" for part, seconds in gap.items()))
        result[name] = summary(found)
    result["speculated"] = {
        "early_videos": len(early),
        "used": sum(video["used"] for video in early),
        "changed": [video["changed"] for video in early],
    }
    publish("stage_gap", result, arguments.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
