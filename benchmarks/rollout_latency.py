"""What the service adds to the model's own time, beside a bare gRPC echo of the same sizes.

    python benchmarks/rollout_latency.py --bundle models/tiny --keep

JPEG and raw images, 1 and 8 robots, over loopback; echo and policy in turn, in two ways:

- `back_to_back`: the robots take turns, each as soon as the one before it was answered. What the
  code costs, without queueing and without waking an idle machine.
- `paced`: 24 observations a second in total (8 robots at 3 Hz), evenly spread. What a robot sees.

`above_model` is what the robot saw minus encoder and step; it includes decoding the image and both
ways of gRPC. The last line is one JSON object; times in milliseconds.
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


async def case(
    policy: str, echo: str, size: int, encoding: str, robots: int, seconds: float, pace: str
) -> dict[str, Any]:
    pictures = images(size, encoding)

    async def run(address: str, method: str | None) -> Run:
        if pace == "back_to_back":
            return await ping_pong(
                address, robots=robots, seconds=seconds, pictures=pictures, method=method
            )
        return await drive(
            address,
            robots=robots,
            rate_hz=TOTAL_HZ / robots,
            seconds=seconds,
            pictures=pictures,
            budget_ms=333.0,
            method=method,
        )

    bare, served = await run(echo, METHOD), await run(policy, None)
    above = [a - b for a, b in zip(served.latency_ms, served.model_ms, strict=True)]
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
        "above_model_ms": percentiles(above),
        "decode_ms": percentiles(served.decode_ms),
        "queue_ms": percentiles(served.queue_ms),
        "echo_ms": percentiles(bare.latency_ms),
        "sent_late_ms": percentiles(served.late_start_ms),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="model; default: tiny random weights")
    parser.add_argument("--threads", type=int, default=0, help="of one inference call; 0: cores")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    cases = []
    with (
        house(arguments.bundle, arguments.threads) as home,
        Server("policy", home) as policy,
        Server("echo", home) as echo,
    ):
        spec, _, model = asyncio.run(spec_of(policy.address))
        options = itertools.product(("back_to_back", "paced"), ("jpeg", "raw"), (1, 8))
        for pace, encoding, robots in options:
            found = asyncio.run(
                case(
                    policy.address,
                    echo.address,
                    spec.image_size,
                    encoding,
                    robots,
                    arguments.seconds,
                    pace,
                )
            )
            print(found)
            cases.append(found)
    worst = {
        pace: max(found["above_model_ms"]["p50"] for found in cases if found["pace"] == pace)
        for pace in ("back_to_back", "paced")
    }
    result = {"model": model, "threads": arguments.threads, "worst_above_model_p50_ms": worst}
    publish("rollout_latency", {**result, "cases": cases}, arguments.keep)


if __name__ == "__main__":
    main()
