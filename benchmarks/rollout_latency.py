"""What the service adds to the model's own time, beside two bare gRPC streams in the same run.

    python benchmarks/rollout_latency.py --bundle models/tiny --keep

JPEG and raw images, 1 and 8 robots, over loopback, in two ways:

- `back_to_back`: the robots take turns, each as soon as the one before it was answered. What the
  code costs, without queueing and without waking an idle machine.
- `paced`: 24 observations a second in total (8 robots at 3 Hz), evenly spread. What a robot sees.

`above_model` is what the robot saw minus encoder and step; it includes decoding the image and both
ways of gRPC. Beside it stand `echo`, a stream that answers at once, and `bare_above_model`, a
stream that decodes and runs the model on its event loop and nothing else: what any Python stream
around this model costs, since the model leaves the caches cold. The three take turns in short
rounds, so that other load on the machine meets them alike; `least_above_model` is the best round's
median. The last line is one JSON object; times in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
from pathlib import Path
from typing import Any

from echo_server import METHOD
from report import percentiles, publish
from robots import Run, drive, images, kilobytes, ping_pong, spec_of
from servers import Server, house

TOTAL_HZ = 24.0
WARM_S = 0.5
KINDS = ("echo", "bare", "policy")


async def one_round(
    kind: str, address: str, pictures: list[Any], robots: int, seconds: float, pace: str
) -> Run:
    method = METHOD if kind == "echo" else None
    if pace == "back_to_back":
        return await ping_pong(
            address,
            robots=robots,
            seconds=seconds,
            pictures=pictures,
            method=method,
            warm_s=WARM_S,
        )
    return await drive(
        address,
        robots=robots,
        rate_hz=TOTAL_HZ / robots,
        seconds=seconds,
        pictures=pictures,
        budget_ms=333.0,
        method=method,
        warm_s=WARM_S,
    )


def case(
    addresses: dict[str, str],
    size: int,
    encoding: str,
    robots: int,
    seconds: float,
    rounds: int,
    pace: str,
) -> dict[str, Any]:
    pictures = images(size, encoding)
    whole = {kind: Run() for kind in KINDS}
    medians: dict[str, list[float]] = {"bare": [], "policy": []}
    for _ in range(rounds):
        for kind, address in addresses.items():
            run = asyncio.run(one_round(kind, address, pictures, robots, seconds / rounds, pace))
            whole[kind].add(run)
            if kind in medians:
                medians[kind].append(statistics.median(run.above_model_ms()))
    served = whole["policy"]
    return {
        "pace": pace,
        "encoding": encoding,
        "robots": robots,
        "image_kB": round(statistics.mean(map(kilobytes, pictures)), 1),
        "observations": len(served.latency_ms),
        "dropped": served.dropped,
        "unanswered": served.unanswered,
        "client_ms": percentiles(served.latency_ms),
        "model_ms": percentiles(served.model_ms),
        "above_model_ms": percentiles(served.above_model_ms()),
        "least_above_model_ms": round(min(medians["policy"]), 3),
        "bare_above_model_ms": percentiles(whole["bare"].above_model_ms()),
        "least_bare_above_model_ms": round(min(medians["bare"]), 3),
        "echo_ms": percentiles(whole["echo"].latency_ms),
        "decode_ms": percentiles(served.decode_ms),
        "queue_ms": percentiles(served.queue_ms),
        "sent_late_ms": percentiles(served.late_start_ms),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="model; default: tiny random weights")
    parser.add_argument("--threads", type=int, default=0, help="of one inference call; 0: cores")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each server in each case")
    parser.add_argument("--rounds", type=int, default=10, help="that the seconds are split into")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    cases = []
    with (
        house(arguments.bundle, arguments.threads) as home,
        Server("echo", home) as echo,
        Server("bare", home) as bare,
        Server("policy", home) as policy,
    ):
        addresses = {"echo": echo.address, "bare": bare.address, "policy": policy.address}
        spec, _, model = asyncio.run(spec_of(policy.address))
        options = itertools.product(("back_to_back", "paced"), ("jpeg", "raw"), (1, 8))
        for pace, encoding, robots in options:
            found = case(
                addresses,
                spec.image_size,
                encoding,
                robots,
                arguments.seconds,
                arguments.rounds,
                pace,
            )
            print(found)
            cases.append(found)
    worst = {
        pace: {
            what: max(found[key]["p50"] for found in cases if found["pace"] == pace)
            for what, key in (
                ("policy", "above_model_ms"),
                ("bare", "bare_above_model_ms"),
                ("echo", "echo_ms"),
            )
        }
        for pace in ("back_to_back", "paced")
    }
    result = {"model": model, "threads": arguments.threads, "worst_p50_above_model_ms": worst}
    publish("rollout_latency", {**result, "cases": cases}, arguments.keep)


if __name__ == "__main__":
    main()
