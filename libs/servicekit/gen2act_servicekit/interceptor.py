"""The edge of every gRPC method: errors become statuses, calls are counted and timed."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from gen2act_contracts import rpc
from gen2act_contracts.errors import Gen2ActError, Internal, InvalidInput
from gen2act_servicekit import logs, metrics

_log = logs.get(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
# Health and reflection are the library's own; they neither raise our errors nor need counting.
_STANDARD = "/grpc."


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of ours.

    - A request that cannot be decoded (broken, or text that is not UTF-8) is `InvalidInput`;
      gRPC itself would call it UNKNOWN.
    - `Gen2ActError` raised by a method becomes its gRPC status with details.
    - A failed call to another service becomes the error that service sent.
    - Anything else is a defect: logged with an id, told to the client as INTERNAL with that id
      and nothing more.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_STANDARD):
            return handler
        decode = _typed(handler.request_deserializer)
        # A stream's messages are decoded while the method reads them, a single one before the
        # method begins, out of our reach: it comes as bytes and is decoded inside the call.
        deserializer, read = (decode, _as_it_is) if handler.request_streaming else (None, decode)
        if handler.response_streaming:
            behaviour = handler.stream_stream or handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            wrapped: Any = _streaming(behaviour, method, read)
        else:
            behaviour = handler.stream_unary or handler.unary_unary
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            wrapped = _single(behaviour, method, read)
        return make(wrapped, deserializer, handler.response_serializer)


def _typed(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def typed(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            raise InvalidInput(
                f"a message of {len(data)} bytes cannot be decoded; text must be UTF-8 ({error})"
            ) from error

    return typed


def _as_it_is(request: Any) -> Any:
    return request


def _single(
    behaviour: Callable[..., Any], method: str, read: Callable[[Any], Any]
) -> Callable[..., Any]:
    async def call(request: Any, context: Context) -> Any:
        with _measured(method, context):
            try:
                return await behaviour(read(request), context)
            except Exception as error:
                await _fail(context, error, method)

    return call


def _streaming(
    behaviour: Callable[..., Any], method: str, read: Callable[[Any], Any]
) -> Callable[..., Any]:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        with _measured(method, context):
            try:
                replies = behaviour(read(request), context)
                if hasattr(replies, "aclose"):
                    # Ends the method's own `finally` blocks now, not at garbage collection.
                    async with aclosing(replies):
                        async for reply in replies:
                            yield reply
                elif hasattr(replies, "__aiter__"):
                    async for reply in replies:
                        yield reply
                else:  # a coroutine that writes through the context
                    await replies
                # When the client goes away, grpc.aio first ends the request iterator as if all
                # were well and cancels in the next turn of the loop: let it, so that the stream
                # is not counted as OK.
                await asyncio.sleep(0)
            except Exception as error:
                await _fail(context, error, method)

    return call


async def _fail(context: Context, error: Exception, method: str) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, grpc.RpcError):
        typed = rpc.from_rpc_error(error)
        _log.warning("peer_failed", method=method, code=typed.code, error=typed.message)
    elif isinstance(error, Gen2ActError):
        typed = error
        _log.info("refused", method=method, code=typed.code, error=typed.message)
    else:
        error_id = uuid.uuid4().hex[:12]
        _log.error("defect", method=method, error_id=error_id, exc_info=error)
        typed = Internal(
            f"internal error {error_id}; the server's log has the details", error_id=error_id
        )
    await rpc.abort(context, typed)


@contextmanager
def _measured(method: str, context: Context) -> Iterator[None]:
    begun = time.monotonic()
    metrics.RPC_STARTED.labels(method).inc()
    active = metrics.RPC_ACTIVE.labels(method)
    active.inc()
    code = "OK"
    try:
        yield
        code = _name(context.code(), "OK")
    except (asyncio.CancelledError, GeneratorExit):
        code = "CANCELLED"
        raise
    except BaseException:
        code = _name(context.code(), "UNKNOWN")
        raise
    finally:
        active.dec()
        metrics.RPC_HANDLED.labels(method, code).inc()
        metrics.RPC_SECONDS.labels(method).observe(time.monotonic() - begun)


def _name(code: Any, default: str) -> str:
    # grpc.aio gives a StatusCode, or 0 / a number while none was set.
    if isinstance(code, grpc.StatusCode):
        return code.name
    by_number = {status.value[0]: status.name for status in grpc.StatusCode}
    return by_number.get(code, default) if code else default
