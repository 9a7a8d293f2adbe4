"""Clocks of the control loop: real time, and as fast as replies come.

The loop knows time through this protocol only, so tests drive it with
`gen2act_robot.testing.FakeClock`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now_ns(self) -> int:
        """Monotonic time of the control loop [ns]."""

    def watch_ns(self) -> int:
        """Monotonic time by a watch [ns], for measuring; the same unless time is virtual."""

    async def wait(self, event: asyncio.Event, until_ns: int) -> bool:
        """Waits for something expected: until it is set (True) or `until_ns` is past (False)."""

    async def sleep_until(self, until_ns: int, wake: asyncio.Event) -> None:
        """Passes time until `until_ns`, or less if `wake` is set."""

    def budget_ms(self, until_ns: int) -> float:
        """How long [ms], by a watch, `wait` would wait for an event until `until_ns`."""


async def _wait_real(event: asyncio.Event, seconds: float) -> bool:
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


class SystemClock:
    """Real time."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def watch_ns(self) -> int:
        return time.monotonic_ns()

    async def wait(self, event: asyncio.Event, until_ns: int) -> bool:
        return await _wait_real(event, (until_ns - self.now_ns()) / 1e9)

    async def sleep_until(self, until_ns: int, wake: asyncio.Event) -> None:
        await self.wait(wake, until_ns)

    def budget_ms(self, until_ns: int) -> float:
        return max(0.0, (until_ns - self.now_ns()) / 1e6)


class FastClock:
    """For simulated robots: time stands still while what is waited for comes within `patience_s`.

    Between ticks there is nothing to wait for, so time jumps to the next tick. A simulated arm only
    moves by ticks, so a run is the same as in real time with replies that come at once. When
    nothing comes within the patience, that much time passes, so that bounds still hold.
    """

    def __init__(self, patience_s: float = 5.0) -> None:
        self._patience_s = patience_s
        self._now_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        return self._now_ns

    def watch_ns(self) -> int:
        return time.monotonic_ns()

    async def wait(self, event: asyncio.Event, until_ns: int) -> bool:
        if await _wait_real(event, self._patience_s):
            return True
        self._now_ns = max(until_ns, self._now_ns + int(self._patience_s * 1e9))
        return False

    async def sleep_until(self, until_ns: int, wake: asyncio.Event) -> None:
        await asyncio.sleep(0)  # other tasks get their turn
        if not wake.is_set():
            self._now_ns = max(until_ns, self._now_ns)

    def budget_ms(self, until_ns: int) -> float:
        return self._patience_s * 1e3
