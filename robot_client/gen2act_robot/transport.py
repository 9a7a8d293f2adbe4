"""gRPC channels as both connections of the robot use them, and the pauses between attempts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

_MAX_MESSAGE_BYTES = 8 * 1024 * 1024

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # A peer that vanished without a word (power, cable) is noticed in 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Every attempt uses a channel of its own and `Backoff` paces them.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


@asynccontextmanager
async def open_channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to `address` (host:port), closed at the end of the block."""
    channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
    try:
        yield channel
    finally:
        await channel.close()


class Backoff:
    """Exponential, with jitter, so that a fleet does not come back all at once."""

    def __init__(
        self,
        initial_s: float = 0.2,
        maximum_s: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._rng = rng or random.Random()
        self._attempt = 0

    def reset(self) -> None:
        self._attempt = 0

    def next_s(self) -> float:
        """The next pause [s]: between half of and the whole of initial * 2^attempt, capped."""
        ceiling = min(self._maximum_s, self._initial_s * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        return ceiling * self._rng.uniform(0.5, 1.0)
