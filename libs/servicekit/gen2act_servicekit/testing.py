"""A real Redis-compatible server for tests, and waiting without sleeps. Not used in services."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

from gen2act_servicekit.redis_server import command, find_server

_START_S = 20.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]],
    *,
    deadline_s: float = 10.0,
    what: str = "condition",
) -> None:
    """Wait until `condition()` holds. Raises AssertionError when it does not in time."""
    end = time.monotonic() + deadline_s
    while True:
        held = condition()
        if isinstance(held, bool):
            if held:
                return
        elif await held:
            return
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not hold within {deadline_s:g} s")
        await asyncio.sleep(0.01)


class LocalRedis:
    """A server of one's own on a free port, with its append-only file in `directory`.

        with LocalRedis(tmp_path) as server:
            client = redis.connect(server.url)
            server.kill(); server.start()   # an outage; accepted writes are back

    Args:
        directory: must exist.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers. Raises AssertionError where it does not."""
        log = self.directory / "server.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command(find_server(), self.directory, self.port), stdout=out, stderr=out
            )
        end = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"no Redis server: {log.read_text()[-500:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> LocalRedis:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
