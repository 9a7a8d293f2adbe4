"""Bounds how many generations run and how many wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gen2act_contracts.errors import Overloaded


class Admission:
    """At most `running` inside, at most `waiting` in the queue, first come first served."""

    def __init__(self, *, running: int, waiting: int) -> None:
        if running < 1 or waiting < 0:
            raise ValueError(f"want running >= 1 and waiting >= 0, got {running} and {waiting}")
        self._slots = asyncio.Semaphore(running)
        self._running_limit = running
        self._waiting_limit = waiting
        self.running = 0
        self.waiting = 0

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Waits for a slot and holds it.

        Raises:
            Overloaded: the queue is full; nothing was waited for.
        """
        if self.running + self.waiting >= self._running_limit + self._waiting_limit:
            raise Overloaded(
                f"{self.running} generations run and {self.waiting} wait; at most "
                f"{self._running_limit} and {self._waiting_limit} are accepted"
            )
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
