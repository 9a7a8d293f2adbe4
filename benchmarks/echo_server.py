"""A bare gRPC stream that answers each message with one of an action reply's size.

What a rollout cannot be faster than. Settings as the policy's (GEN2ACT_PORT, …).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from gen2act_contracts import pb
from gen2act_servicekit import ServiceSettings, runner
from gen2act_servicekit.metrics import start_metrics_server

METHOD = "/gen2act.benchmark.Echo/Rollout"


def reply() -> bytes:
    """As long as the policy's usual answer."""
    action = pb.policy.ActionReply(
        sequence=1000,
        chunk=pb.common.ActionChunk(steps=4, dims=3, values=[0.01] * 12, gripper=[0.5] * 4),
        terminate_probability=0.5,
        expires_monotonic_ns=10**15,
        timing=pb.policy.Timing(
            queue_ms=1, decode_ms=1, encode_ms=1, step_ms=1, total_ms=1, batch=1
        ),
    )
    return pb.policy.RolloutReply(action=action).SerializeToString()


async def main() -> None:
    settings = ServiceSettings()
    answer = reply()

    async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield answer

    server = grpc.aio.server()
    service, _, name = METHOD.strip("/").partition("/")
    handler: Any = grpc.stream_stream_rpc_method_handler(echo)  # bytes in, bytes out
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {name: handler}),)
    )
    server.add_insecure_port(f"{settings.host}:{settings.port}")
    await server.start()
    start_metrics_server(settings.metrics_port)
    await server.wait_for_termination()


if __name__ == "__main__":
    runner.main(main)
