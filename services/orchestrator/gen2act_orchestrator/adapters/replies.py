"""Redis replies, typed. The client library declares `bytes | str` for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Reply: TypeAlias = bytes | str


def data(reply: Reply) -> bytes:
    """The reply as it came over the wire."""
    return reply.encode() if isinstance(reply, str) else reply


def text(reply: Reply) -> str:
    """A reply that we wrote as text."""
    return reply if isinstance(reply, str) else reply.decode()


def texts(replies: Iterable[Reply]) -> list[str]:
    return [text(reply) for reply in replies]
