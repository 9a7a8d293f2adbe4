"""The error tree over gRPC: typed on the server, status on the wire, typed again on the client.

An error travels as `google.rpc.Status` with one `ErrorInfo(reason=code, domain="gen2act",
metadata)` in the call's trailing metadata, the form any gRPC client library can read.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gen2act_contracts import errors

DOMAIN = "gen2act"
_DETAILS_KEY = "grpc-status-details-bin"
# HTTP/2 stacks bound a message's headers (gRPC: 8 KiB by default, the details are base64 in
# them); a longer text would lose the whole status.
_MAX_MESSAGE = 2048
_MAX_VALUE = 512
_MAX_METADATA = 2048

# The most specific entry on an error's class hierarchy counts.
_STATUS: dict[type[errors.Gen2ActError], grpc.StatusCode] = {
    errors.Gen2ActError: grpc.StatusCode.INTERNAL,
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RobotIdInUse: grpc.StatusCode.ALREADY_EXISTS,
    errors.IdempotencyMismatch: grpc.StatusCode.ALREADY_EXISTS,
    errors.ContractMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PlanningFailed: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PlannerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.GenerationFailed: grpc.StatusCode.INTERNAL,
    errors.BackendRequires: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VideoRejected: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnsupportedInstruction: grpc.StatusCode.INVALID_ARGUMENT,
    errors.GenerationCancelled: grpc.StatusCode.CANCELLED,
    errors.BundleInvalid: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProviderMissing: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.RobotFault: grpc.StatusCode.ABORTED,
}

# What a bare status (no ErrorInfo of ours: the transport, a proxy, a foreign server) means.
_BARE: dict[grpc.StatusCode, type[errors.Gen2ActError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.PeerUnavailable,
    # A peer that dies in the middle of a stream is seen as CANCELLED by asyncio clients.
    grpc.StatusCode.CANCELLED: errors.PeerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    # gRPC's own word for "message larger than max".
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.InvalidInput,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Conflict,
    # The peer does not have this method: another contract.
    grpc.StatusCode.UNIMPLEMENTED: errors.ContractMismatch,
}

# The codes of `grpc.StatusCode` are (number, name) pairs.
_NUMBER: dict[grpc.StatusCode, int] = {code: code.value[0] for code in grpc.StatusCode}


def status_code(error: errors.Gen2ActError) -> grpc.StatusCode:
    """The gRPC status of an error, by its nearest ancestor with an entry."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def to_status(error: errors.Gen2ActError) -> status_pb2.Status:
    """`google.rpc.Status` with one ErrorInfo; over-long texts are cut to what headers can carry."""
    metadata: dict[str, str] = {}
    room = _MAX_METADATA
    for key, value in error.metadata.items():
        short = _cut(str(value), _MAX_VALUE)
        room -= len(key.encode()) + len(short.encode())
        if room < 0:
            break
        metadata[key] = short
    message = _cut(error.message, _MAX_MESSAGE)
    status = status_pb2.Status(code=_NUMBER[status_code(error)], message=message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=metadata)
    )
    return status


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, without surrogates (a protobuf string refuses them)."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: errors.Gen2ActError
) -> NoReturn:
    """End the call with the error's status and details. Raises (gRPC's AbortError), always."""
    status = to_status(error)
    await context.abort(
        status_code(error),
        status.message,
        ((_DETAILS_KEY, status.SerializeToString()),),
    )
    raise AssertionError("abort returned")  # pragma: no cover - grpc.aio's abort never returns


def from_rpc_error(error: grpc.RpcError) -> errors.Gen2ActError:
    """The typed error a failed call stands for.

    Args:
        error: from a sync or an asyncio call.

    Returns:
        The server's own error where it sent one, else what the bare status means: transport
        failures are `PeerUnavailable` or `DeadlineExceeded`.
    """
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    details = (error.details() if hasattr(error, "details") else str(error)) or ""
    info = _error_info(error)
    if info is not None:
        reason, message, metadata = info
        return errors.from_code(reason, message, metadata)
    kind = _BARE.get(code, errors.Internal)
    return kind(details or f"call failed with {code.name}", grpc_status=code.name)


def _error_info(error: grpc.RpcError) -> tuple[str, str, dict[str, str]] | None:
    # Typed loosely: sync and asyncio calls have different classes for the same pairs.
    read: Any = getattr(error, "trailing_metadata", None)
    for key, value in (read() if read else None) or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            return None
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info.reason, status.message, dict(info.metadata)
    return None
