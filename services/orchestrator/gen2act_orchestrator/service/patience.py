"""Calling a peer that may be away for a while, without ever waiting for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from gen2act_contracts.errors import Gen2ActError

_log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a peer may be away, and how calls to it are repeated."""

    total_s: float = 60.0  # [s] from the first try to giving up
    first_pause_s: float = 0.2  # [s] doubled after every try
    longest_pause_s: float = 3.0  # [s]


class PatienceOver(Exception):
    """A peer stayed away, or kept failing, for longer than our patience."""

    def __init__(self, error: Gen2ActError, patience: Patience) -> None:
        super().__init__(f"{error.message} (gave up after {patience.total_s:.0f} s)")
        self.error = error


async def outlast(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """As `patiently`, but the last retryable error comes as PatienceOver: told apart from one
    that is worth another attempt of the stage.
    """
    try:
        return await patiently(call, patience)
    except Gen2ActError as error:
        if error.retryable:
            raise PatienceOver(error, patience) from error
        raise


async def patiently(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """The result of `call`, repeated with jitter while it fails retryably.

    `call` must be idempotent and bring its own deadline.

    Raises:
        Gen2ActError: what the last try raised, once it is not retryable or patience is over.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience.total_s
    pause_s = patience.first_pause_s
    while True:
        try:
            return await call()
        except Gen2ActError as error:
            # half to full pause: robots that lost the same peer do not come back in step
            wait_s = pause_s * random.uniform(0.5, 1.0)
            if not error.retryable or loop.time() + wait_s >= give_up_at:
                raise
            _log.warning("away; trying again", code=error.code, error=error.message)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, patience.longest_pause_s)
