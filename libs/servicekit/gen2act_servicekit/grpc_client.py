"""Outgoing calls: a channel that notices a dead peer, deadlines always, retries where safe."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from gen2act_contracts import rpc
from gen2act_contracts.errors import DeadlineExceeded, Gen2ActError

T = TypeVar("T")
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0


def channel(address: str, *, max_message_mb: int = 8) -> grpc.aio.Channel:
    """A channel to host:port; connects on first use and reconnects by itself. Close it.

    Args:
        max_message_mb: [MiB] of one message, both ways.
    """
    limit = max_message_mb * 1024 * 1024
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            # A service that restarts is found again within 2 s (the default waits up to 2 min).
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # Channels to one address keep their own connection, so that closing one is final.
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )


async def call_with_retry(
    call: Callable[[float], Awaitable[T]],
    *,
    deadline_s: float,
    attempts: int = 3,
    idempotent: bool,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Call a peer within a deadline; where that is safe, again after a retryable failure.

        spec = await call_with_retry(
            lambda timeout: stub.GetSpec(request, timeout=timeout),
            deadline_s=5, idempotent=True)

    Args:
        call: makes the call; its argument is the time left [s].
        deadline_s: [s] for all attempts and the waits between them.
        attempts: at most so many calls.
        idempotent: False makes one attempt: a call that failed on the way back was carried out.
        sleep: for tests.

    Raises:
        Gen2ActError: the last failure, typed.
    """
    end = time.monotonic() + deadline_s
    for attempt in range(1, (attempts if idempotent else 1) + 1):
        left = end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"no answer within {deadline_s:g} s")
        try:
            return await asyncio.wait_for(call(left), left)
        except grpc.RpcError as error:
            failure: Gen2ActError = rpc.from_rpc_error(error)
            cause: BaseException = error
        except TimeoutError as error:
            failure, cause = DeadlineExceeded(f"no answer within {deadline_s:g} s"), error
        except Gen2ActError as error:
            failure, cause = error, error.__cause__ or error
        # Full jitter: clients that failed together do not come back together.
        wait = random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt))
        last = attempt == attempts or not idempotent
        if last or not failure.retryable or time.monotonic() + wait >= end:
            raise failure from (None if cause is failure else cause)
        await sleep(wait)
    raise AssertionError("unreachable: attempts is at least 1")
