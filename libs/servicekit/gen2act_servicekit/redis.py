"""The state store: one way to connect, and its failures as errors of our tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from gen2act_contracts.errors import StoreUnavailable
from gen2act_servicekit.settings import ConfigurationError, without_password

# [s] A blocking read (XREAD BLOCK) must ask for less than this, or it ends in a time-out.
SOCKET_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 2.0
_HEALTH_CHECK_S = 15
_MAX_CONNECTIONS = 256

# Refused for want of disk or memory, or by a replica: the server is there but takes no writes.
_REFUSALS = ("MISCONF", "OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS")


def connect(url: str) -> Redis:
    """A client; connects on first use, so a store that is down fails the first command only.

    A command is sent again when its connection breaks, so it may be carried out twice: writes
    must be idempotent (SET, Lua with a compare) or tolerate it.

    Args:
        url: redis://, rediss:// or unix://.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    try:
        return Redis.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=_HEALTH_CHECK_S,
            max_connections=_MAX_CONNECTIONS,
            # Rides over a dropped connection, not over an outage: that is the caller's to see.
            retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 2),
        )
    except ValueError as error:
        raise ConfigurationError(f"redis url {without_password(url)!r}: {error}") from None


@contextmanager
def guard() -> Iterator[None]:
    """Turn the store's failures inside the block into `StoreUnavailable`.

    Errors in what was asked (a wrong type, a broken script) pass as they are: those are defects.
    """
    try:
        yield
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
    except exceptions.ResponseError as error:
        if _refuses(error):
            raise StoreUnavailable(f"Redis takes no writes: {error}") from error
        raise


def _refuses(error: exceptions.ResponseError) -> bool:
    return str(error).startswith(_REFUSALS) or isinstance(
        error, exceptions.OutOfMemoryError | exceptions.ReadOnlyError
    )
