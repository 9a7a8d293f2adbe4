"""The whole service over gRPC with a real Redis-compatible server and the real simulator."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gen2act_contracts import frames, keys, pb
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.video import decode_mp4, encode_mp4
from gen2act_servicekit import GrpcService
from gen2act_servicekit.grpc_client import channel
from gen2act_servicekit.metrics import REGISTRY
from gen2act_servicekit.redis import connect
from gen2act_servicekit.testing import LocalRedis, eventually
from gen2act_videogen.service import start
from gen2act_videogen.settings import VideogenSettings
from gen2act_videogen.testing import moving_video, scene_picture

gen2act_sim = pytest.importorskip("gen2act_sim", reason="the simulator is not installed")

pytestmark = pytest.mark.asyncio(loop_scope="module")

Stub = pb.videogen_grpc.VideoGenerationStub
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    with LocalRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_server: LocalRedis) -> AsyncIterator[GrpcService]:
    service = await start(
        VideogenSettings(
            port=0,
            metrics_port=0,
            redis_url=redis_server.url,
            drain_s=1,
            video_backends="demonstrator",
        )
    )
    await eventually(lambda: service.ready, deadline_s=TIMEOUT_S, what="ready")
    yield service
    await service.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(service: GrpcService) -> AsyncIterator[Stub]:
    async with channel(service.address) as connection:
        yield Stub(connection)


def a_scene(
    scene: str = "drawer", seed: int = 11, task: str = "drawer-open"
) -> pb.common.SceneFrame:
    world = gen2act_sim.World(scene, seed)
    world.reset(task)
    image = frames.encode_jpeg(frames.Frame(world.observe().image))
    sent = pb.common.SceneFrame(image=image, simulator_state=world.get_state())
    world.close()
    return sent


def a_request(**changes: object) -> pb.videogen.GenerateRequest:
    fields: dict[str, object] = {"task": "open the drawer", "scene": a_scene(), "seed": 1}
    return pb.videogen.GenerateRequest(**{**fields, **changes})  # type: ignore[arg-type]


async def generate(
    stub: Stub, request: pb.videogen.GenerateRequest, timeout: float = TIMEOUT_S
) -> tuple[list[pb.videogen.GenerateProgress], pb.videogen.GeneratedVideo]:
    progress, results = [], []
    async for event in stub.Generate(request, timeout=timeout):
        if event.WhichOneof("event") == "progress":
            progress.append(event.progress)
        else:
            results.append(event.result)
    assert len(results) == 1
    return progress, results[0]


async def refusal(stub: Stub, request: pb.videogen.GenerateRequest) -> tuple[str, str]:
    """Code and message of the error that a request gets."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(stub, request)
    error = from_rpc_error(caught.value)
    return error.code, str(error)


async def stored(server: LocalRedis, key: str) -> bytes:
    client = connect(server.url)
    value = await client.get(key)
    await client.aclose()
    assert isinstance(value, bytes)
    return value


async def upload(server: LocalRedis, data: bytes) -> str:
    video_id = hashlib.sha256(data).hexdigest()
    client = connect(server.url)
    await client.set(keys.video_key(video_id), data, ex=600)
    await client.aclose()
    return video_id


async def test_a_video_comes_back_by_id_with_progress_and_provenance(
    stub: Stub, redis_server: LocalRedis
) -> None:
    request = a_request(seed=101)
    progress, video = await generate(stub, request)
    assert progress
    assert all(0 <= step.fraction <= 1 and step.phase for step in progress)
    assert (video.frames, video.size, video.cached) == (16, 224, False)
    provenance = video.provenance
    assert provenance.prompt == "A person opening the drawer, static camera"
    assert provenance.first_frame_sha256 == hashlib.sha256(request.scene.image.data).hexdigest()
    assert (provenance.seed, provenance.backend) == (101, "demonstrator")
    assert provenance.model
    assert provenance.seconds > 0
    mp4 = await stored(redis_server, keys.video_key(video.video_id))
    meta = json.loads(await stored(redis_server, keys.video_meta_key(video.video_id)))
    client = connect(redis_server.url)
    assert 0 < await client.ttl(keys.video_key(video.video_id)) <= keys.VIDEO_TTL_S
    await client.aclose()
    assert hashlib.sha256(mp4).hexdigest() == video.video_id
    pixels, fps = decode_mp4(mp4)
    assert pixels.shape == (16, 224, 224, 3)
    assert fps == pytest.approx(video.fps, rel=0.01)
    assert meta["prompt"] == provenance.prompt
    assert meta["gate"]["first_frame_difference"] < 0.11
    # The stored first frame is the scene: only the robot's arm differs.
    scene = frames.decode(request.scene.image).pixels
    assert np.median(np.abs(pixels[0].astype(int) - scene)) < 8


async def test_the_same_request_is_answered_from_the_store(
    stub: Stub, redis_server: LocalRedis
) -> None:
    request = a_request(seed=102)
    _, first = await generate(stub, request)
    _, second = await generate(stub, request)
    assert (first.cached, second.cached) == (False, True)
    assert second.video_id == first.video_id
    assert second.provenance == first.provenance
    client = connect(redis_server.url)
    await client.delete(keys.video_key(first.video_id))  # as if evicted
    await client.aclose()
    _, third = await generate(stub, request)
    assert (third.cached, third.video_id) == (False, first.video_id)


def generations_made() -> float:
    labels = {"backend": "demonstrator", "outcome": "made"}
    return REGISTRY.get_sample_value("gen2act_videogen_generations_total", labels) or 0.0


async def test_concurrent_equal_requests_give_one_video(stub: Stub) -> None:
    request = a_request(seed=103)
    before = generations_made()
    answers = await asyncio.gather(*(generate(stub, request) for _ in range(4)))
    assert len({video.video_id for _, video in answers}) == 1
    assert generations_made() - before == 1


async def test_an_uploaded_recording_becomes_the_goal_video(
    stub: Stub, redis_server: LocalRedis
) -> None:
    recording = moving_video(scene_picture(3, size=128), frames=40)
    source = await upload(redis_server, encode_mp4(recording, 20.0))
    _, video = await generate(stub, a_request(source_video_id=source))
    assert (video.provenance.backend, video.frames, video.size) == ("file", 40, 224)
    meta = json.loads(await stored(redis_server, keys.video_meta_key(video.video_id)))
    assert meta["source_video_id"] == source
    # Another instance is legitimate here: reported, not refused.
    assert meta["gate"]["first_frame_difference"] > 0.11
    assert meta["gate"]["first_frame_enforced"] is False


async def test_an_expired_recording_is_not_found(stub: Stub) -> None:
    code, message = await refusal(stub, a_request(source_video_id="0" * 64))
    assert code == "VIDEO_EXPIRED"
    assert "upload it again" in message


@pytest.mark.parametrize("kind", ["garbage", "short", "static"])
async def test_a_bad_recording_is_refused(stub: Stub, redis_server: LocalRedis, kind: str) -> None:
    still = np.repeat(scene_picture()[None], 20, axis=0)
    data, expected = {
        "garbage": (b"not a video", ("INVALID_VIDEO", "cannot be decoded")),
        "short": (
            encode_mp4(moving_video(scene_picture(), 9), 5.0),
            ("VIDEO_REJECTED", "9 frames"),
        ),
        "static": (encode_mp4(still, 5.0), ("VIDEO_REJECTED", "static")),
    }[kind]
    source = await upload(redis_server, data)
    code, message = await refusal(stub, a_request(source_video_id=source))
    assert code == expected[0]
    assert expected[1] in message


def an_image(kind: str) -> pb.common.Image:
    jpeg = pb.common.IMAGE_ENCODING_JPEG
    raw = pb.common.IMAGE_ENCODING_RAW_RGB8
    good = a_scene().image.data
    return {
        "none": pb.common.Image(),
        "truncated": pb.common.Image(encoding=jpeg, width=224, height=224, data=good[:500]),
        "not an image": pb.common.Image(encoding=jpeg, width=224, height=224, data=b"hello" * 99),
        "not square": pb.common.Image(encoding=raw, width=64, height=32, data=bytes(64 * 32 * 3)),
        "1x1": pb.common.Image(encoding=raw, width=1, height=1, data=bytes(3)),
        "other size than declared": pb.common.Image(
            encoding=jpeg, width=128, height=128, data=good
        ),
        "bomb": pb.common.Image(encoding=jpeg, width=60000, height=60000, data=good),
        "no encoding": pb.common.Image(width=224, height=224, data=good),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "truncated",
        "not an image",
        "not square",
        "1x1",
        "other size than declared",
        "bomb",
        "no encoding",
    ],
)
async def test_a_bad_scene_image_is_refused(stub: Stub, kind: str) -> None:
    scene = pb.common.SceneFrame(image=an_image(kind), simulator_state=b"x")
    code, message = await refusal(stub, a_request(scene=scene))
    assert code == "INVALID_IMAGE"
    assert message


async def test_a_missing_scene_is_refused(stub: Stub) -> None:
    request = pb.videogen.GenerateRequest(task="open the drawer")
    assert (await refusal(stub, request))[0] == "INVALID_IMAGE"


@pytest.mark.parametrize("task", ["", "open " * 2000, "the drawer", "\x00\x01"])
async def test_a_bad_instruction_is_refused(stub: Stub, task: str) -> None:
    assert (await refusal(stub, a_request(task=task)))[0] == "INVALID_INSTRUCTION"


async def test_an_unknown_backend_is_refused_with_the_known_ones(stub: Stub) -> None:
    code, message = await refusal(stub, a_request(backend="sora"))
    assert code == "UNKNOWN_BACKEND"
    assert "demonstrator" in message


@pytest.mark.parametrize("state", [b"", b"corrupt", b"\xff" * 300])
async def test_a_scene_without_readable_state_names_what_the_demonstrator_requires(
    stub: Stub, state: bytes
) -> None:
    scene = a_scene()
    code, message = await refusal(
        stub, a_request(scene=pb.common.SceneFrame(image=scene.image, simulator_state=state))
    )
    assert code == "BACKEND_REQUIRES"
    assert "simulator state" in message


async def test_an_impossible_task_names_the_possible_ones(stub: Stub) -> None:
    code, message = await refusal(stub, a_request(task="juggle three oranges"))
    assert code == "UNSUPPORTED_INSTRUCTION"
    assert "open the drawer" in message


async def test_a_state_of_another_scene_is_stopped_by_the_gate(stub: Stub) -> None:
    other = a_scene("coffee", 11, "coffee-push")
    scene = pb.common.SceneFrame(image=other.image, simulator_state=a_scene().simulator_state)
    code, message = await refusal(stub, a_request(scene=scene))
    assert code == "VIDEO_REJECTED"
    assert "resemble" in message


async def test_backends_are_listed_with_what_they_need(stub: Stub) -> None:
    reply = await stub.ListBackends(pb.videogen.ListBackendsRequest(), timeout=TIMEOUT_S)
    listed = {backend.name: backend for backend in reply.backends}
    assert listed["demonstrator"].is_default
    assert listed["demonstrator"].available
    assert "simulator state" in listed["demonstrator"].requires
    assert not listed["file"].is_default
    assert "source_video_id" in listed["file"].requires


async def test_leaving_the_call_or_its_deadline_frees_the_worker(stub: Stub) -> None:
    call = stub.Generate(a_request(seed=104), timeout=TIMEOUT_S)
    async for _ in call:
        break
    call.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(stub, a_request(seed=105), timeout=0.001)
    assert from_rpc_error(caught.value).code == "DEADLINE_EXCEEDED"
    _, video = await generate(stub, a_request(seed=106))
    assert video.frames == 16


async def test_redis_lost_in_the_middle_is_typed_and_passes(
    stub: Stub, service: GrpcService, redis_server: LocalRedis
) -> None:
    async with channel(service.address) as connection:
        health = health_pb2_grpc.HealthStub(connection)

        async def status(name: str) -> int:
            reply = await health.Check(  # type: ignore[attr-defined]  # set in __init__
                health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S
            )
            return int(reply.status)

        serving = health_pb2.HealthCheckResponse.SERVING
        assert await status("videogen") == serving
        redis_server.kill()
        try:
            code, _ = await refusal(stub, a_request(seed=107))
            assert code == "STORE_UNAVAILABLE"
            await eventually(lambda: not service.ready, deadline_s=20, what="not ready")
            assert await status("videogen") != serving
            assert await status("") == serving  # live all the while
        finally:
            redis_server.start()
        await eventually(lambda: service.ready, deadline_s=20, what="ready again")
        _, video = await generate(stub, a_request(seed=107))
        assert video.frames == 16
