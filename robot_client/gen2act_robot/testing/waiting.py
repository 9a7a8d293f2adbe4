"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], deadline_s: float = 30.0, what: str = "") -> None:
    """Returns once `condition()` is true.

    Raises:
        AssertionError: it is not within the deadline [s].
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while not condition():
        assert loop.time() < end, f"not within {deadline_s:g} s: {what or condition}"
        await asyncio.sleep(0.005)
