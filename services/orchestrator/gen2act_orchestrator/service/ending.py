"""Ending background work for sure."""

from __future__ import annotations

import asyncio
from typing import Any

_ASK_AGAIN_S = 0.1  # [s]


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are done; what they raised is of no more interest.

    Asked more than once: before Python 3.12 `asyncio.wait_for`, which the Redis client uses,
    swallows a cancellation that arrives at the moment its call finishes.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=_ASK_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()
