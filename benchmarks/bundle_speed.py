"""What a bundle's inference costs for one robot, beside the naive tick in the same run.

    python benchmarks/bundle_speed.py --bundle models/tiny --keep

In this process, through the policy service's own runtime, with as many threads as the service takes
unless told otherwise; batch 1. Three things are timed:

- `tick`: the newest frame is encoded, then one step. What the service does at each observation.
- `naive_tick`: all frames of the human video and of the history are encoded, the goal is resampled,
  then one step. What it would do without its caches.
- `goal`: the human video's frames are encoded and resampled. What the service does once a video.

They take turns in short rounds, so that other load on the machine meets them alike. The last line
is one JSON object; times in milliseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report import percentiles, publish

from gen2act_policy.bundle import Bundle, load_bundle
from gen2act_policy.runtime import OnnxRuntime, blank_proprioception, fitted_runtime
from gen2act_policy.settings import PolicySettings

REPEATS = 5  # of each kind in a round


def kinds(bundle: Bundle, runtime: OnnxRuntime) -> dict[str, Callable[[], object]]:
    """What is timed, by name. Pictures are noise: what they show costs nothing."""
    spec, frames = bundle.spec, bundle.goal_frames
    rng = np.random.default_rng(0)
    shape = (frames + spec.history_length, spec.image_size, spec.image_size, 3)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    features = runtime.encode(images)
    goal = runtime.resample(features[None, :frames])
    measured = blank_proprioception(spec, 1)

    def tick() -> object:
        newest = runtime.encode(images[-1:])
        history = np.concatenate([features[frames + 1 :], newest])
        return runtime.step(history[None], goal[None], measured)

    def naive_tick() -> object:
        encoded = runtime.encode(images)
        tokens = runtime.resample(encoded[None, :frames])
        return runtime.step(encoded[None, frames:], tokens[None], measured)

    def encode_goal() -> object:
        return runtime.resample(runtime.encode(images[:frames])[None])

    return {"tick": tick, "naive_tick": naive_tick, "goal": encode_goal}


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every call; the first round, which warms up, is left out."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            for _ in range(REPEATS):
                started = time.perf_counter()
                call()
                if number:
                    times[name].append(1e3 * (time.perf_counter() - started))
    return times


def main() -> None:
    defaults = PolicySettings.model_fields
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=defaults["bundle"].default)
    parser.add_argument("--provider", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--threads",
        type=int,
        default=defaults["threads"].default,
        help="of one call; 0: as the service chooses",
    )
    parser.add_argument("--rounds", type=int, default=60, help=f"of {REPEATS} calls of each kind")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    if bundle.conditioning == "language":
        parser.error(f"{arguments.bundle} is conditioned on language; it has no video to encode")
    runtime = fitted_runtime(bundle, arguments.provider, arguments.threads)
    found = measure(kinds(bundle, runtime), arguments.rounds)
    result: dict[str, Any] = {
        "bundle": str(arguments.bundle),
        "model_hash": bundle.model_hash,
        "provider": runtime.provider,
        "threads": runtime.threads,
        "batch": 1,
        "calls": arguments.rounds * REPEATS,
    }
    publish("bundle_speed", result | {n: percentiles(t) for n, t in found.items()}, arguments.keep)


if __name__ == "__main__":
    main()
