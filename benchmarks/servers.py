"""The processes that the rollout benchmarks measure: Redis, policy, naive policy, bare echo."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from gen2act_contracts import keys, video
from gen2act_policy.testing import small_spec, write_random_bundle
from gen2act_servicekit import redis
from gen2act_servicekit.testing import LocalRedis, free_port

VIDEO_ID = "benchmark"
START_S = 60.0
HERE = Path(__file__).parent
SOURCES = {
    "policy": ["-m", "gen2act_policy"],
    "naive": [str(HERE / "naive_server.py")],
    "bare": [str(HERE / "bare_server.py")],
    "echo": [str(HERE / "echo_server.py")],
}


@dataclass(frozen=True)
class House:
    """Where a model and its store are."""

    bundle: Path
    redis_url: str
    threads: int


class Server:
    """One serving process on a free port; ready when the block is entered."""

    def __init__(self, kind: str, house: House) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        port, ready_port = self.address.partition(":")[2], free_port()
        self._ready_url = f"http://127.0.0.1:{ready_port}/readyz"
        environment = {
            **os.environ,
            "GEN2ACT_BUNDLE": str(house.bundle),
            "GEN2ACT_REDIS_URL": house.redis_url,
            "GEN2ACT_PORT": port,
            "GEN2ACT_METRICS_PORT": str(ready_port),
            "GEN2ACT_THREADS": str(house.threads),
            "GEN2ACT_MAX_ROLLOUTS": "4096",
            "GEN2ACT_LOG_LEVEL": "warning",
        }
        self._process = subprocess.Popen([sys.executable, *SOURCES[kind]], env=environment)

    def __enter__(self) -> Server:
        import httpx

        end = time.monotonic() + START_S
        while True:
            if self._process.poll() is not None:
                raise SystemExit(f"the server ended with code {self._process.returncode}")
            try:
                if httpx.get(self._ready_url, timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            if time.monotonic() > end:
                self._process.kill()
                raise SystemExit(f"the server was not ready within {START_S:g} s")
            time.sleep(0.05)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def house(bundle: Path | None, threads: int) -> Iterator[House]:
    """A store with one human video, and the bundle; without one, a tiny random model."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if bundle is None:
            bundle = root / "bundle"
            write_random_bundle(bundle, small_spec(image_size=224), name="random weights")
        (root / "redis").mkdir()
        with LocalRedis(root / "redis") as store:
            asyncio.run(_keep_video(store.url))
            yield House(bundle, store.url, threads)


async def _keep_video(url: str) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 14, 14, 3), dtype=np.uint8)
    client = redis.connect(url)
    mp4 = video.encode_mp4(coarse.repeat(16, axis=1).repeat(16, axis=2), 10)
    await client.set(keys.video_key(VIDEO_ID), mp4)
    await client.aclose()
