"""Messages between this service and its worker processes: a JSON header and raw bytes.

Layout: uint32 header length, uint32 payload length (big endian), header (UTF-8 JSON object),
payload. The worker reads requests from its standard input and writes replies to what was its
standard output, so a worker whose parent died reads end-of-file and ends by itself.

This file is imported by both sides and must stay light: no gRPC, no Redis, no simulator.
"""

from __future__ import annotations

import json
import os
import select
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 256 << 20

Header = dict[str, Any]

READY = "ready"  # worker → service, once, when it is warm
PROGRESS = "progress"  # {"fraction", "phase"}
RESULT = "result"
ERROR = "error"  # {"code", "message"}; code as in gen2act_contracts.errors


class ProtocolError(Exception):
    """The other side sent something that is no message."""


def pack(header: Header, payload: bytes = b"") -> bytes:
    """One message as bytes."""
    text = json.dumps(header).encode()
    return PREFIX.pack(len(text), len(payload)) + text + payload


def lengths(prefix: bytes) -> tuple[int, int]:
    """Header and payload length [bytes] from a message's first eight bytes."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"message of {header_bytes} + {payload_bytes} bytes is too large")
    return header_bytes, payload_bytes


def parse_header(text: bytes) -> Header:
    """The header of a message."""
    header = json.loads(text)
    if not isinstance(header, dict) or "type" not in header:
        raise ProtocolError("message header is not an object with a type")
    return header


class WorkerEnd:
    """The worker's side of the pipe; blocking."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink

    @classmethod
    def from_stdio(cls) -> WorkerEnd:
        """Takes over standard input and output; later prints go to standard error."""
        sink = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return cls(os.fdopen(os.dup(0), "rb"), sink)

    def send(self, header: Header, payload: bytes = b"") -> None:
        view = memoryview(pack(header, payload))
        while view:  # unbuffered writes may be partial
            view = view[self._sink.write(view) :]

    def has_input(self) -> bool:
        """Whether a request (or the end of the service) waits; one request is open at a time."""
        return bool(select.select([self._source], [], [], 0)[0])

    def receive(self) -> tuple[Header, bytes] | None:
        """The next message, or None when the service is gone."""
        prefix = self._source.read(PREFIX.size)
        if len(prefix) < PREFIX.size:
            return None
        header_bytes, payload_bytes = lengths(prefix)
        text, payload = self._source.read(header_bytes), self._source.read(payload_bytes)
        if len(text) < header_bytes or len(payload) < payload_bytes:
            return None
        return parse_header(text), payload


Handler = Callable[[Header, bytes, Callable[[float, str], None]], tuple[Header, bytes]]
"""(request header, payload, progress) → (result header, payload)."""


class WorkerFailure(Exception):
    """Raised by a handler to send a typed error; the worker lives on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def serve(end: WorkerEnd, handler: Handler, chores: Iterable[object] = ()) -> None:
    """Says it is ready, then answers requests one by one until the service is gone.

    Args:
        end: the pipe.
        handler: answers one request.
        chores: done step by step while no request waits, e.g. warming caches.
    """

    def progress(fraction: float, phase: str) -> None:
        end.send({"type": PROGRESS, "fraction": fraction, "phase": phase})

    end.send({"type": READY})
    steps = iter(chores)
    done = object()
    while True:
        while not end.has_input() and next(steps, done) is not done:
            pass
        message = end.receive()
        if message is None:
            return
        try:
            header, payload = handler(*message, progress)
            end.send({**header, "type": RESULT}, payload)
        except WorkerFailure as failure:
            end.send({"type": ERROR, "code": failure.code, "message": str(failure)})
