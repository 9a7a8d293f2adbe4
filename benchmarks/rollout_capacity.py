"""How many 3 Hz robots one replica serves, against the naive policy in the same run.

    python benchmarks/rollout_capacity.py --bundle models/tiny --keep

Open loop: every robot sends a JPEG each third of a second, whatever comes back. A number of
robots passes when p99 from due time to action is below 333 ms and no observation was dropped or
left unanswered. Doubles until it fails, then narrows down. The load comes from one process on the
same machine. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import percentiles, publish
from robots import drive, images, spec_of
from servers import House, Server, house

PERIOD_MS = 1000 / 3
RATE_HZ = 3.0


def largest(passes: Callable[[int], bool], limit: int, resolution: float = 0.04) -> int:
    """Largest number that passes, to within `resolution` of it; 0 if 1 fails."""
    good, bad = 0, limit + 1
    number = 1
    while number <= limit:
        if not passes(number):
            bad = number
            break
        good, number = number, number * 2
    while bad - good > max(1, int(resolution * good)):
        middle = (good + bad) // 2
        if passes(middle):
            good = middle
        else:
            bad = middle
    return good


def capacity(kind: str, home: House, seconds: float, limit: int) -> dict[str, Any]:
    """The largest number of robots that `kind` of server serves, and every trial."""
    trials: list[dict[str, Any]] = []
    with Server(kind, home) as server:
        spec, _, _ = asyncio.run(spec_of(server.address))
        pictures = images(spec.image_size, "jpeg")

        def passes(robots: int) -> bool:
            run = asyncio.run(
                drive(
                    server.address,
                    robots=robots,
                    rate_hz=RATE_HZ,
                    seconds=seconds,
                    pictures=pictures,
                    budget_ms=PERIOD_MS,
                    warm_s=3.0,
                )
            )
            latency = percentiles(run.latency_ms)
            ok = (
                bool(latency)
                and latency["p99"] < PERIOD_MS
                and run.dropped == 0
                and run.unanswered == 0
                and not run.errors
            )
            trial = {
                "robots": robots,
                "pass": ok,
                "client_ms": latency,
                "model_ms": percentiles(run.model_ms),
                "mean_batch": round(sum(run.batch) / max(1, len(run.batch)), 2),
                "dropped": run.dropped,
                "unanswered": run.unanswered,
                "errors": sorted(set(run.errors)),
                "sent_late_ms": percentiles(run.late_start_ms),
            }
            print(kind, trial)
            trials.append(trial)
            return ok

        most = largest(passes, limit)
    return {"robots": most, "trials": sorted(trials, key=lambda trial: trial["robots"])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="model; default: tiny random weights")
    parser.add_argument("--threads", type=int, default=0, help="of one inference call; 0: cores")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each trial")
    parser.add_argument("--limit", type=int, default=512, help="most robots to try")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    with house(arguments.bundle, arguments.threads) as home:
        naive = capacity("naive", home, arguments.seconds, arguments.limit)
        ours = capacity("policy", home, arguments.seconds, arguments.limit)
    result = {
        "model": str(arguments.bundle or "random weights"),
        "threads": arguments.threads,
        "limit": arguments.limit,
        "robots": ours["robots"],
        "naive_robots": naive["robots"],
        "policy": ours,
        "naive": naive,
    }
    publish("rollout_capacity", result, arguments.keep)


if __name__ == "__main__":
    main()
