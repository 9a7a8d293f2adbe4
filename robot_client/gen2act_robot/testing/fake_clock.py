"""A clock that stands still until nothing else can happen, and an executor without threads."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# More turns of the event loop than any chain of callbacks in the client is long.
_TURNS_TO_SETTLE = 50


class FakeClock:
    """Virtual time for the control loop (a `gen2act_robot.clock.Clock`).

    Time advances only in `run`, to the next timer, when all tasks have come to rest. So there is
    nothing to wait for and nothing depends on the machine's speed. Not for use with real I/O.
    """

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now_ns(self) -> int:
        return self._now_ns

    def watch_ns(self) -> int:
        return self._now_ns

    def call_at(self, when_ns: int, call: Callable[[], None]) -> None:
        """Has `call` called when the clock reads `when_ns`."""
        heapq.heappush(self._timers, (when_ns, next(self._order), call))

    def call_later(self, delay_ms: float, call: Callable[[], None]) -> None:
        self.call_at(self._now_ns + int(delay_ms * 1e6), call)

    def spend(self, ms: float) -> None:
        """Lets time pass at once, as a slow driver call would."""
        self._now_ns += int(ms * 1e6)

    async def wait(self, event: asyncio.Event, until_ns: int) -> bool:
        if event.is_set() or self._now_ns >= until_ns:
            return event.is_set()
        due = asyncio.Event()
        self.call_at(until_ns, due.set)
        waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(due.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return event.is_set()

    async def sleep_until(self, until_ns: int, wake: asyncio.Event) -> None:
        await self.wait(wake, until_ns)

    def budget_ms(self, until_ns: int) -> float:
        return max(0.0, (until_ns - self._now_ns) / 1e6)

    async def run(self, awaitable: Awaitable[T], *, limit_s: float = 3600.0) -> T:
        """Runs `awaitable` to its end in virtual time.

        Raises:
            AssertionError: it waits for something that no timer will bring, or takes longer than
                `limit_s` of virtual time.
        """
        task = asyncio.ensure_future(awaitable)
        end_ns = self._now_ns + int(limit_s * 1e9)
        try:
            while True:
                for _ in range(_TURNS_TO_SETTLE):
                    await asyncio.sleep(0)
                if task.done():
                    return await task
                assert self._timers, "everything waits, and no timer is set"
                when_ns, _, call = heapq.heappop(self._timers)
                assert when_ns <= end_ns, f"not done after {limit_s} s of virtual time"
                self._now_ns = max(self._now_ns, when_ns)
                call()
        finally:
            task.cancel()


class InlineExecutor(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
