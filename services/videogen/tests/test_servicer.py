"""The gRPC edge with scripted backends: cancel, deadline, overload, drain, defects."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from gen2act_contracts import frames, pb
from gen2act_contracts.errors import Gen2ActError, PeerUnavailable
from gen2act_contracts.rpc import from_rpc_error
from gen2act_servicekit import GrpcService
from gen2act_servicekit.grpc_client import channel
from gen2act_servicekit.testing import eventually
from gen2act_videogen.admission import Admission
from gen2act_videogen.backends import BACKENDS
from gen2act_videogen.backends.__main__ import listing
from gen2act_videogen.generation import Generator
from gen2act_videogen.making import Maker
from gen2act_videogen.servicer import VideoGenerationServicer
from gen2act_videogen.testing import MemoryVideoStore, ScriptedBackend, scene_picture

Stub = pb.videogen_grpc.VideoGenerationStub


@asynccontextmanager
async def served(
    *backends: ScriptedBackend, waiting: int = 4, drain_s: float = 0.1
) -> AsyncIterator[tuple[GrpcService, Stub]]:
    generator = Generator(
        backends,
        [backend.name for backend in backends],
        Maker(MemoryVideoStore(), Admission(running=1, waiting=waiting), max_generation_s=30),
    )
    service = GrpcService("videogen", drain_s=drain_s)
    service.add(
        pb.videogen_grpc.add_VideoGenerationServicer_to_server,
        VideoGenerationServicer(generator, service.refuse_while_draining),
        pb.videogen.DESCRIPTOR.services_by_name["VideoGeneration"],
    )
    service.at_drain(generator.close)
    await service.start()
    async with channel(service.address) as connection:
        yield service, Stub(connection)
    await service.stop()


def a_request(seed: int = 0, task: str = "open the drawer") -> pb.videogen.GenerateRequest:
    image = frames.encode_raw(frames.Frame(scene_picture()))
    return pb.videogen.GenerateRequest(
        task=task, scene=pb.common.SceneFrame(image=image), seed=seed
    )


async def outcome(call: AsyncIterable[pb.videogen.GenerateEvent]) -> Gen2ActError | None:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def test_progress_comes_before_exactly_one_result() -> None:
    async with served(ScriptedBackend()) as (_, stub):
        kinds = [
            event.WhichOneof("event") async for event in stub.Generate(a_request(), timeout=20)
        ]
    assert kinds[-1] == "result"
    assert kinds.count("result") == 1
    assert kinds[0] == "progress"


async def test_cancelling_the_call_cancels_the_generation() -> None:
    backend = ScriptedBackend(held=True)
    async with served(backend) as (_, stub):
        call = stub.Generate(a_request(), timeout=20)
        await eventually(backend.began.is_set)
        call.cancel()
        await eventually(lambda: backend.cancelled == 1)
        backend.held = False
        assert await outcome(stub.Generate(a_request(1), timeout=20)) is None


async def test_the_call_s_deadline_cancels_the_generation() -> None:
    backend = ScriptedBackend(held=True)
    async with served(backend) as (_, stub):
        error = await outcome(stub.Generate(a_request(), timeout=0.3))
        assert error is not None and error.code == "DEADLINE_EXCEEDED"
        await eventually(lambda: backend.cancelled == 1)


async def test_one_caller_s_leaving_leaves_the_other_its_video() -> None:
    backend = ScriptedBackend(held=True)
    async with served(backend) as (_, stub):
        leaver = stub.Generate(a_request(), timeout=20)
        stayer = stub.Generate(a_request(), timeout=20)
        assert await anext(aiter(leaver)) is not None
        assert await anext(aiter(stayer)) is not None
        leaver.cancel()
        backend.release.set()
        events = [event async for event in stayer]
        assert events[-1].HasField("result")
        assert backend.cancelled == 0
        assert len(backend.requests) == 1


async def test_overload_is_a_retryable_refusal() -> None:
    backend = ScriptedBackend(held=True)
    async with served(backend, waiting=0) as (_, stub):
        first = stub.Generate(a_request(1), timeout=20)
        await eventually(backend.began.is_set)
        error = await outcome(stub.Generate(a_request(2), timeout=20))
        assert error is not None and error.code == "OVERLOADED" and error.retryable
        backend.release.set()
        assert await outcome(first) is None


async def test_a_defect_is_told_by_an_id_only_and_the_service_stays_up() -> None:
    backend = ScriptedBackend(defect=RuntimeError("secret detail"))
    async with served(backend) as (_, stub):
        error = await outcome(stub.Generate(a_request(), timeout=20))
        assert error is not None and error.code == "INTERNAL"
        assert "secret" not in str(error)
        backend.defect = None
        assert await outcome(stub.Generate(a_request(), timeout=20)) is None


async def test_draining_ends_what_runs_and_says_so() -> None:
    backend = ScriptedBackend(held=True)
    async with served(backend) as (service, stub):
        call = stub.Generate(a_request(), timeout=20)
        await eventually(backend.began.is_set)
        await service.stop()
        error = await outcome(call)
        assert error is not None and error.retryable
        assert backend.cancelled == 1


async def test_backends_that_are_not_enabled_are_listed_as_such() -> None:
    async with served(ScriptedBackend(), ScriptedBackend(name="file", unavailable="why")) as (
        _,
        stub,
    ):
        reply = await stub.ListBackends(pb.videogen.ListBackendsRequest(), timeout=20)
    listed = {backend.name: backend for backend in reply.backends}
    assert listed["scripted"].is_default and listed["scripted"].available
    assert not listed["demonstrator"].available
    for name in set(BACKENDS) - {"file"}:
        assert BACKENDS[name].requires in listed[name].requires
        assert "not enabled in GEN2ACT_VIDEO_BACKENDS" in listed[name].requires
    assert not listed["file"].available
    assert "why" in listed["file"].requires


async def test_the_command_line_shows_the_listing() -> None:
    async with served(ScriptedBackend(), ScriptedBackend(name="away", unavailable="why")) as (
        service,
        _,
    ):
        lines = (await listing(service.address)).splitlines()
    assert lines[0].split() == ["scripted", "available", "needs", "nothing"]
    assert {line.split()[0] for line in lines} == {"scripted", "away", *BACKENDS}
    with pytest.raises(PeerUnavailable):
        await listing(service.address)


@pytest.mark.parametrize("field", ["backend", "source_video_id"])
async def test_over_long_names_are_refused(field: str) -> None:
    async with served(ScriptedBackend()) as (_, stub):
        request = a_request()
        setattr(request, field, "x" * 10_000)
        error = await outcome(stub.Generate(request, timeout=20))
    assert error is not None and error.code == "INVALID_INPUT"
    assert len(str(error)) < 200


async def test_an_instruction_that_is_not_utf8_fails_its_call_only() -> None:
    async with served(ScriptedBackend()) as (service, stub):
        async with channel(service.address) as connection:
            call = connection.unary_stream(
                "/gen2act.v1.VideoGeneration/Generate",
                request_serializer=bytes,
                response_deserializer=bytes,
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in call(b"\x0a\x04op\xff\xfe", timeout=20):
                    pass
        assert "UTF-8" in (caught.value.details() or "")
        assert await outcome(stub.Generate(a_request(), timeout=20)) is None


async def test_an_instruction_that_is_not_utf8_is_an_invalid_argument() -> None:
    async with served(ScriptedBackend()) as (service, _), channel(service.address) as connection:
        call = connection.unary_stream("/gen2act.v1.VideoGeneration/Generate")(b"\x0a\x02\xff\xfe")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call.read()
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
