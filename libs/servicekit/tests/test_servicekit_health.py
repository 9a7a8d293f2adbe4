"""Live, ready and model loaded are three things; asked over gRPC and over HTTP."""

import asyncio
import threading
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gen2act_servicekit import GrpcService
from gen2act_servicekit.metrics import start_metrics_server
from gen2act_servicekit.settings import ConfigurationError


async def health(channel: grpc.aio.Channel, name: str) -> str:
    request = health_pb2.HealthCheckRequest(service=name)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        reply = await stub.Check(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


def ask(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def probe(service: GrpcService, path: str) -> int:
    return await asyncio.to_thread(ask, f"http://127.0.0.1:{service.metrics_port}{path}")


async def test_a_started_service_is_live_but_not_ready(
    service: GrpcService, channel: grpc.aio.Channel
) -> None:
    assert await health(channel, "") == "SERVING"
    assert await health(channel, "policy") == "NOT_SERVING"
    assert await health(channel, "gen2act.v1.Policy") == "NOT_SERVING"
    assert await health(channel, "policy.model") == "NOT_FOUND"
    assert await probe(service, "/livez") == 200
    assert await probe(service, "/readyz") == 503


async def test_ready_can_come_and_go_while_live_stays(
    service: GrpcService, channel: grpc.aio.Channel
) -> None:
    for ready, status, code in ((True, "SERVING", 200), (False, "NOT_SERVING", 503)):
        await service.set_ready(ready)

        assert await health(channel, "policy") == status
        assert await health(channel, "gen2act.v1.Policy") == status
        assert await probe(service, "/readyz") == code
        assert await health(channel, "") == "SERVING"
        assert await probe(service, "/livez") == 200


async def test_model_loaded_is_apart_from_ready(
    service: GrpcService, channel: grpc.aio.Channel
) -> None:
    await service.set_model_loaded(True)

    assert await health(channel, "policy.model") == "SERVING"
    assert await health(channel, "policy") == "NOT_SERVING"


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
    call = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
    )
    listed = {one.name for one in (await call.read()).list_services_response.service}

    assert {"gen2act.v1.Policy", "grpc.health.v1.Health"} <= listed


async def test_an_unknown_path_is_not_found(service: GrpcService) -> None:
    assert await probe(service, "/") == 404
    assert await probe(service, "/metrics?x=1") == 200


def test_a_stuck_event_loop_is_not_live() -> None:
    loop = asyncio.new_event_loop()
    stuck, go_on = threading.Event(), threading.Event()

    async def start() -> object:
        return start_metrics_server(0)

    server = loop.run_until_complete(start())

    async def block() -> None:
        stuck.set()
        go_on.wait(30)

    thread = threading.Thread(target=loop.run_until_complete, args=(block(),))
    thread.start()
    try:
        assert stuck.wait(10)
        url = f"http://127.0.0.1:{server.port}"  # type: ignore[attr-defined]
        assert ask(f"{url}/livez") == 503
        assert ask(f"{url}/readyz") == 503
        assert ask(f"{url}/metrics") == 200
    finally:
        go_on.set()
        thread.join()
        server.close()  # type: ignore[attr-defined]
        loop.close()


async def test_a_port_in_use_is_a_configuration_error(service: GrpcService) -> None:
    second = GrpcService("policy", port=service.port)
    with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{service.port}"):
        await second.start()
    third = GrpcService("policy", metrics_port=service.metrics_port)
    with pytest.raises(ConfigurationError, match="cannot serve metrics"):
        await third.start()
