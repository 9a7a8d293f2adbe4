"""`openai-videos` against an engine on a loopback port, well-behaved and otherwise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes
from email.message import Message
from io import BytesIO

import pytest
from fake_http import FakeHttp, Pauses, Reply, Script, as_json
from PIL import Image
from pydantic import SecretStr
from structlog.testing import capture_logs

from gen2act_contracts.errors import (
    BackendRequires,
    Gen2ActError,
    GenerationFailed,
    PeerUnavailable,
    UnsupportedInstruction,
)
from gen2act_contracts.video import encode_mp4
from gen2act_servicekit.testing import free_port
from gen2act_videogen import gate
from gen2act_videogen.admission import Admission
from gen2act_videogen.backend import BackendVideo, QuotaExceeded, ResultLost
from gen2act_videogen.backends.ingest import MAX_BYTES
from gen2act_videogen.backends.openai_videos import OpenAIVideosBackend
from gen2act_videogen.generation import Generator
from gen2act_videogen.making import Maker
from gen2act_videogen.testing import (
    MemoryVideoStore,
    ScriptedBackend,
    a_request,
    moving_video,
    scene_picture,
)

KEY = "sk-very-secret"
FRAMES = 24
MP4 = encode_mp4(moving_video(scene_picture(size=128), FRAMES), 16)
JOB = {"id": "video_1", "object": "video", "model": "wan", "error": None}
CREATE, LOOK, CONTENT, DELETE, SYNC = (
    "POST /v1/videos",
    "GET /v1/videos/video_1",
    "GET /v1/videos/video_1/content",
    "DELETE /v1/videos/video_1",
    "POST /v1/videos/sync",
)

Make = Callable[..., OpenAIVideosBackend]


def no_progress(fraction: float, phase: str) -> None:
    """For callers that do not look."""


def job(status: str, progress: float = 0, **more: object) -> Reply:
    return as_json({**JOB, "status": status, "progress": progress, **more})


@pytest.fixture
def script() -> Script:
    video = Reply(body=MP4, kind="video/mp4")
    return Script(
        {
            CREATE: job("queued"),
            LOOK: job("completed", 100),
            CONTENT: video,
            DELETE: as_json({"id": "video_1", "deleted": True}),
            SYNC: video,
        }
    )


@pytest.fixture
async def engine(script: Script) -> AsyncIterator[FakeHttp]:
    async with FakeHttp(script) as server:
        yield server


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def make(engine: FakeHttp, pauses: Pauses) -> AsyncIterator[Make]:
    made = []

    def backend(**changes: object) -> OpenAIVideosBackend:
        options = {
            "api_key": SecretStr(KEY),
            "frames": FRAMES,
            "size": 128,
            "image_size": 64,
            "deadline_s": 20.0,
            "sleep": pauses,
            **changes,
        }
        made.append(OpenAIVideosBackend(f"{engine.url}/v1", **options))  # type: ignore[arg-type]
        return made[-1]

    yield backend
    for each in made:
        await each.close()


async def generate(backend: OpenAIVideosBackend) -> BackendVideo:
    return await backend.generate(a_request(seed=7), no_progress)


async def failure(backend: OpenAIVideosBackend) -> Gen2ActError:
    with pytest.raises(Gen2ActError) as caught:
        await generate(backend)
    assert KEY not in str(caught.value) + str(caught.value.metadata)
    return caught.value


def form(engine: FakeHttp) -> dict[str, Message]:
    """The parts of the one form that was posted, by name."""
    (posted,) = engine.seen("POST")
    head = f"Content-Type: {posted.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + posted.body).get_payload()
    assert isinstance(parts, list)
    named = {part.get_param("name", header="content-disposition"): part for part in parts}
    return {str(name): part for name, part in named.items()}  # type: ignore[misc]


def text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


async def test_a_square_video_of_the_scene_comes_back(make: Make, engine: FakeHttp) -> None:
    made = await generate(make())
    assert made.frames.shape == (FRAMES, 64, 64, 3)
    assert made.fps == pytest.approx(16)
    assert made.model == "wan"  # the engine's own word
    gate.check(made.frames, scene_picture(), starts_at_scene=True)
    assert [str(each) for each in engine.requests] == [CREATE, LOOK, CONTENT, DELETE]
    assert {each.headers["authorization"] for each in engine.requests} == {f"Bearer {KEY}"}


async def test_size_frames_and_scene_are_always_sent(make: Make, engine: FakeHttp) -> None:
    options = {"num_inference_steps": 4, "negative_prompt": "text", "extra_params": {"a": [1]}}
    await generate(make(model="wan2.2", options=options))
    parts = form(engine)
    sent = {name: text(part) for name, part in parts.items() if name != "input_reference"}
    assert sent == {
        "prompt": "A person opening the drawer, static camera",
        "seed": "7",
        "size": "128x128",
        "num_frames": str(FRAMES),
        "fps": "16",
        "model": "wan2.2",
        "num_inference_steps": "4",
        "negative_prompt": "text",
        "extra_params": '{"a": [1]}',
    }
    reference = parts["input_reference"]
    assert reference.get_content_type() == "image/png"
    payload = reference.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert Image.open(BytesIO(payload)).size == (128, 128)


async def test_what_decides_the_video_is_part_of_its_identity(make: Make) -> None:
    request = a_request()
    prints = {
        make(**changes).fingerprint(request)
        for changes in ({}, {"size": 256}, {"frames": 49}, {"fps": 8}, {"options": {"steps": 4}})
    }
    assert len(prints) == 5


async def test_progress_is_passed_on(make: Make, script: Script) -> None:
    script.once[LOOK] = [job("queued"), job("in_progress", 40), job("in_progress", 90)]
    seen: list[tuple[float, str]] = []
    await make().generate(a_request(), lambda *step: seen.append(step))
    assert seen == [
        (0.0, "queued by the engine"),
        (0.4, "generating"),
        (0.9, "generating"),
        (1.0, "decoding"),
    ]


async def test_the_synchronous_mode_asks_once(make: Make, engine: FakeHttp) -> None:
    made = await generate(make(mode="sync"))
    assert len(made.frames) == FRAMES
    assert [str(each) for each in engine.requests] == [SYNC]
    assert text(form(engine)["num_frames"]) == str(FRAMES)


async def test_without_a_key_none_is_sent(make: Make, engine: FakeHttp) -> None:
    await generate(make(api_key=None))
    assert all("authorization" not in each.headers for each in engine.requests)


@pytest.mark.parametrize("where", [LOOK, CONTENT])
async def test_looking_is_repeated_while_the_engine_is_busy_or_broken(
    make: Make, script: Script, engine: FakeHttp, pauses: Pauses, where: str
) -> None:
    script.once[where] = [
        Reply(429, headers={"Retry-After": "7"}),
        Reply(503),
        Reply(drop=True),
        Reply(body=b"cut", announced=999),
    ]
    await generate(make())
    assert len(engine.seen("POST")) == 1
    assert pauses.seconds[0] == 7
    assert all(0 < pause <= 4 for pause in pauses.seconds[1:])


async def test_content_that_is_not_there_yet_is_asked_for_again(make: Make, script: Script) -> None:
    script.once[CONTENT] = [Reply(404), Reply(404)]
    assert len((await generate(make())).frames) == FRAMES


async def test_looking_ends_when_the_engine_stays_broken(
    make: Make, script: Script, engine: FakeHttp
) -> None:
    script.usual[LOOK] = Reply(500)
    error = await failure(make())
    assert type(error) is ResultLost and not error.retryable
    assert len(engine.seen("GET")) == 5
    assert len(engine.seen("POST")) == 1
    assert str(engine.requests[-1]) == DELETE


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(drop=True),
        Reply(500),
        Reply(502),
        Reply(503, headers={"Retry-After": "1"}),
        Reply(504),
        Reply(body=b"{", announced=99),
    ],
)
async def test_a_create_request_whose_answer_is_lost_is_never_sent_again(
    make: Make, script: Script, engine: FakeHttp, mode: str, reply: Reply
) -> None:
    script.usual[CREATE] = script.usual[SYNC] = reply
    error = await failure(make(mode=mode))
    assert type(error) is ResultLost and not error.retryable
    assert len(engine.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"id": "", "status": "queued"}', b'{"a": 1}'])
async def test_an_answer_that_describes_no_job_is_a_lost_one(
    make: Make, script: Script, engine: FakeHttp, body: bytes
) -> None:
    script.usual[CREATE] = Reply(body=body)
    assert type(await failure(make())) is ResultLost
    assert len(engine.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (as_json({"error": {"message": f"bad key {KEY}"}}, 401), BackendRequires, "API_KEY"),
        (as_json({"error": "no"}, 403), BackendRequires, "API_KEY"),
        (as_json({"detail": "no such path"}, 404), BackendRequires, "GEN2ACT_ENGINE_BASE_URL"),
        (Reply(307, headers={"Location": "http://x/"}), BackendRequires, "BASE_URL"),
        (as_json({"detail": [{"msg": f"size? {KEY}"}]}, 422), BackendRequires, "size? ***"),
        (as_json({"error": {"code": "moderation_blocked"}}, 400), UnsupportedInstruction, "moder"),
        (as_json({"error": "Guardrail blocked prompt"}, 500), UnsupportedInstruction, "Guardrail"),
        (as_json({"error": "full"}, 429, **{"Retry-After": "9"}), QuotaExceeded, "wait 9 s"),
    ],
)
async def test_a_refused_request_says_what_to_do_and_is_not_sent_again(
    make: Make,
    script: Script,
    engine: FakeHttp,
    reply: Reply,
    kind: type[Gen2ActError],
    words: str,
) -> None:
    script.usual[CREATE] = reply
    error = await failure(make())
    assert type(error) is kind
    assert words in str(error)
    assert len(engine.requests) == 1


async def test_an_engine_that_is_not_there_is_unavailable() -> None:
    backend = OpenAIVideosBackend(f"http://127.0.0.1:{free_port()}/v1")
    error = await failure(backend)
    assert type(error) is PeerUnavailable and error.retryable
    await backend.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "oom", "message": "out of memory"}, GenerationFailed),
        ("out of memory", GenerationFailed),
        (None, GenerationFailed),
        ({"code": "content_policy_violation", "message": "hands"}, UnsupportedInstruction),
        ({"message": "Blocked by guardrails"}, UnsupportedInstruction),
    ],
)
async def test_a_failed_job_is_told_from_a_refusal(
    make: Make, script: Script, engine: FakeHttp, error: object, kind: type[Gen2ActError]
) -> None:
    script.usual[LOOK] = job("failed", error=error)
    assert type(await failure(make())) is kind
    assert str(engine.requests[-1]) == DELETE


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(body=MP4[: len(MP4) // 2], kind="video/mp4"), "cannot be read"),
        (Reply(body=b"", kind="video/mp4"), "cannot be read"),
        (Reply(body=b"#EXTM3U\nfile:///etc/hostname", kind="video/mp4"), "cannot be read"),
        (Reply(body=b"<html>", kind="text/html"), "text/html and not a video"),
        (as_json({"error": "odd"}), "application/json and not a video"),
        (
            Reply(body=encode_mp4(moving_video(scene_picture(), 20), 16), kind="video/mp4"),
            "20 frames where 24",
        ),
    ],
)
async def test_a_video_that_is_none_is_a_failed_generation(
    make: Make, script: Script, reply: Reply, words: str
) -> None:
    script.usual[CONTENT] = reply
    error = await failure(make())
    assert type(error) is GenerationFailed
    assert words in str(error)


async def test_a_huge_video_is_not_read(make: Make, script: Script) -> None:
    script.usual[CONTENT] = Reply(kind="video/mp4", announced=MAX_BYTES + 1)
    assert f"more than {MAX_BYTES} bytes" in str(await failure(make()))


async def test_an_endless_answer_is_not_read_to_its_end(make: Make, script: Script) -> None:
    script.usual[LOOK] = Reply(body=b" " * (2 << 20), announced=-1)
    assert "more than 1048576 bytes" in str(await failure(make()))


async def test_redirects_are_followed_at_home_only(
    make: Make, script: Script, engine: FakeHttp
) -> None:
    async with FakeHttp(lambda _: Reply(body=MP4, kind="video/mp4")) as other:
        script.once[CONTENT] = [
            Reply(302, headers={"Location": "/v1/elsewhere"}),
            Reply(302, headers={"Location": f"{other.url}/stolen"}),
        ]
        script.usual["GET /v1/elsewhere"] = Reply(body=MP4, kind="video/mp4")
        assert len((await generate(make())).frames) == FRAMES
        error = await failure(make())
        assert "127.0.0.1" in str(error) and "not its own" in str(error)
        assert not other.requests
    script.usual[CONTENT] = Reply(302, headers={"Location": CONTENT.partition(" ")[2]})
    assert "redirects more than 3 times" in str(await failure(make()))


async def test_the_id_of_a_job_leads_nowhere_else(
    make: Make, script: Script, engine: FakeHttp
) -> None:
    script.usual[CREATE] = as_json({**JOB, "id": "../../admin?x=", "status": "queued"})
    await failure(make())
    assert all(
        each.path.startswith("/v1/videos/..%2F..%2Fadmin%3Fx%3D") for each in engine.requests[1:]
    )


async def test_leaving_deletes_the_job(make: Make, script: Script, engine: FakeHttp) -> None:
    script.usual[LOOK] = Reply(never=True)
    call = asyncio.create_task(generate(make()))
    await engine.until(LOOK)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert str(engine.requests[-1]) == DELETE


async def test_leaving_while_the_job_is_being_created_deletes_it_too(
    make: Make, script: Script, engine: FakeHttp
) -> None:
    answer = asyncio.Event()
    script.once[CREATE] = [
        Reply(body=script.usual[CREATE].body, after=answer),
    ]
    call = asyncio.create_task(generate(make()))
    await engine.until(CREATE)
    call.cancel()
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [str(each) for each in engine.requests] == [CREATE, DELETE]


async def test_an_engine_that_takes_too_long_is_told_to_stop(
    make: Make, script: Script, engine: FakeHttp
) -> None:
    script.usual[LOOK] = Reply(never=True)
    error = await failure(make(deadline_s=0.5))
    assert type(error) is ResultLost
    assert "did not finish within 0.5 s" in str(error)
    assert str(engine.requests[-1]) == DELETE


async def test_a_job_that_cannot_be_deleted_does_not_spoil_the_video(
    make: Make, script: Script
) -> None:
    script.usual[DELETE] = Reply(drop=True)
    assert len((await generate(make())).frames) == FRAMES


async def test_the_key_is_in_no_log(
    make: Make, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script.once[LOOK] = [Reply(500)]
    with capture_logs() as events:
        await generate(make())
        script.usual[CREATE] = as_json({"error": f"wrong key {KEY}"}, 401)
        await failure(make())
    assert events and caplog.records
    assert KEY not in str(events) + caplog.text


def a_generator(*backends: OpenAIVideosBackend | ScriptedBackend) -> Generator:
    maker = Maker(
        MemoryVideoStore(), Admission(running=1, waiting=0), max_generation_s=60, attempts=2
    )
    return Generator(backends, [each.name for each in backends], maker)


async def test_a_broken_video_is_asked_for_again_with_another_seed(
    make: Make, script: Script, engine: FakeHttp
) -> None:
    script.once[CONTENT] = [Reply(body=MP4[:999], kind="video/mp4")]
    heard: list[str] = []
    video, _ = await a_generator(make()).generate(
        a_request(seed=7), "", lambda _, phase: heard.append(phase)
    )
    assert (video.backend, video.model, video.seed) == ("openai-videos", "wan", 8)
    assert len(engine.seen("POST")) == 2
    assert any(phase.startswith("decoding (attempt 2 of 2: the engine sent") for phase in heard)


@pytest.mark.parametrize("reply", [Reply(429), Reply(drop=True), Reply(401)])
async def test_the_next_backend_makes_it_when_the_engine_cannot(
    make: Make, script: Script, engine: FakeHttp, reply: Reply
) -> None:
    script.usual[CREATE] = reply
    video, _ = await a_generator(make(), ScriptedBackend()).generate(a_request(), "", no_progress)
    assert video.backend == "scripted"
    assert len(engine.requests) == 1
