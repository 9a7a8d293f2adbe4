"""What happens to running and new calls when a service is told to end."""

import asyncio
import os
import signal
from typing import Any

import grpc
import pytest
from echo_policy import EchoPolicy, open_rollout
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gen2act_contracts import errors, pb
from gen2act_servicekit import GrpcService
from gen2act_servicekit.testing import eventually

Stub = pb.policy_grpc.PolicyStub


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_running_stream_ends_well_after_a_signal(
    service: GrpcService, servicer: EchoPolicy, stub: Stub, number: signal.Signals
) -> None:
    closed = asyncio.Event()

    async def close() -> None:
        closed.set()

    service.at_drain(close)
    await service.set_ready(True)
    running = asyncio.create_task(service.run_until_signal())
    call: Any = stub.Rollout(iter([open_rollout("wait")]), timeout=30)
    await asyncio.wait_for(servicer.waiting.wait(), 10)

    os.kill(os.getpid(), number)
    await asyncio.wait_for(service.draining.wait(), 10)

    assert not service.ready
    assert not running.done()
    assert not closed.is_set()
    servicer.release.set()
    assert (await call.read()).opened.session_id == "wait"
    assert await call.read() is grpc.aio.EOF
    await asyncio.wait_for(running, 20)
    assert closed.is_set()


async def test_a_draining_service_takes_nothing_new(
    service: GrpcService, servicer: EchoPolicy, stub: Stub
) -> None:
    call: Any = stub.Rollout(iter([open_rollout("wait")]), timeout=30)
    await asyncio.wait_for(servicer.waiting.wait(), 10)
    stopping = asyncio.create_task(service.stop())
    await asyncio.wait_for(service.draining.wait(), 10)

    async def refused() -> bool:
        try:
            await stub.GetSpec(pb.policy.GetSpecRequest(), timeout=1)
        except grpc.aio.AioRpcError as error:
            return error.code() in {
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            }
        return False

    await eventually(refused)
    with pytest.raises(errors.Draining):
        service.refuse_while_draining()
    await service.set_ready(True)
    assert not service.ready
    servicer.release.set()
    assert (await call.read()).opened.session_id == "wait"
    await asyncio.wait_for(stopping, 20)


async def test_a_stream_that_does_not_end_is_cut_after_the_drain_time(
    servicer: EchoPolicy,
) -> None:
    service = GrpcService("policy", drain_s=0.05)
    service.add(
        pb.policy_grpc.add_PolicyServicer_to_server,
        servicer,
        pb.policy.DESCRIPTOR.services_by_name["Policy"],
    )
    await service.start()
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: Any = Stub(channel).Rollout(iter([open_rollout("wait")]), timeout=30)
        await asyncio.wait_for(servicer.waiting.wait(), 10)

        await asyncio.wait_for(service.stop(), 20)

        assert servicer.cleaned_up.is_set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()


async def test_a_second_signal_cuts_the_drain_short(
    service: GrpcService, servicer: EchoPolicy, stub: Stub
) -> None:
    running = asyncio.create_task(service.run_until_signal())
    call: Any = stub.Rollout(iter([open_rollout("wait")]), timeout=30)
    await asyncio.wait_for(servicer.waiting.wait(), 10)

    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(service.draining.wait(), 10)
    os.kill(os.getpid(), signal.SIGTERM)

    await asyncio.wait_for(running, 20)  # the drain alone would take 30 s
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()


async def test_one_thing_that_fails_to_close_does_not_keep_the_others_open(
    service: GrpcService,
) -> None:
    closed: list[str] = []

    async def good(name: str) -> None:
        closed.append(name)

    async def bad() -> None:
        raise OSError("cannot close")

    service.at_drain(lambda: good("store"))
    service.at_drain(bad)
    service.at_drain(lambda: good("model"))
    await service.stop()

    assert closed == ["model", "store"]


async def test_health_says_not_serving_while_streams_end(
    service: GrpcService, servicer: EchoPolicy, stub: Stub, channel: grpc.aio.Channel
) -> None:
    await service.set_ready(True)
    stub_of_health: Any = health_pb2_grpc.HealthStub(channel)
    watch = stub_of_health.Watch(health_pb2.HealthCheckRequest(service="policy"), timeout=30)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    call: Any = stub.Rollout(iter([open_rollout("wait")]), timeout=30)
    await asyncio.wait_for(servicer.waiting.wait(), 10)

    stopping = asyncio.create_task(service.stop())

    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    servicer.release.set()
    await call.read()
    await asyncio.wait_for(stopping, 20)
