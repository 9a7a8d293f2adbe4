"""`gemini-omni` against a service on a loopback port, well-behaved and otherwise."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fake_http import FakeHttp, Pauses, Reply, Script, as_json
from PIL import Image
from pydantic import SecretStr

from gen2act_contracts.errors import (
    BackendRequires,
    Gen2ActError,
    GenerationFailed,
    UnsupportedInstruction,
)
from gen2act_contracts.video import encode_mp4
from gen2act_videogen import gate
from gen2act_videogen.backend import BackendVideo, QuotaExceeded, ResultLost
from gen2act_videogen.backends.gemini_omni import GeminiOmniBackend
from gen2act_videogen.testing import a_request, moving_video, scene_picture

KEY = "AIza-very-secret"
FPS = 8


def wide_video(seconds: int = 3) -> npt.NDArray[np.uint8]:
    """What the service makes of a padded scene: uint8 [N, 128, 228, 3], black at the sides."""
    square = moving_video(scene_picture(size=128), seconds * FPS + 1)
    return np.pad(square, ((0, 0), (0, 0), (50, 50), (0, 0)))


MP4 = encode_mp4(wide_video(), FPS)
CREATE = "POST /v1beta/interactions"
LOOK = "GET /v1beta/interactions/v1_a"
CANCEL = "POST /v1beta/interactions/v1_a/cancel"
FILE = "GET /v1beta/files/f:download"

Make = Callable[..., GeminiOmniBackend]


def no_progress(fraction: float, phase: str) -> None:
    """For callers that do not look."""


def interaction(status: str, *contents: dict[str, Any], **more: Any) -> Reply:
    thought = {"type": "thought", "content": [{"type": "text", "text": "safety of drawers"}]}
    output = {"type": "model_output", "content": list(contents)}
    steps = [thought, output] if contents else []
    return as_json({"id": "v1_a", "status": status, "steps": steps, **more})


def video_at(uri: str) -> dict[str, Any]:
    return {"type": "video", "mime_type": "video/mp4", "uri": uri}


@pytest.fixture
def script() -> Script:
    return Script(
        {
            CREATE: interaction("in_progress"),
            CANCEL: interaction("cancelled"),
            FILE: Reply(body=MP4, kind="video/mp4"),
        }
    )


@pytest.fixture
async def gemini(script: Script) -> AsyncIterator[FakeHttp]:
    async with FakeHttp(script) as server:
        uri = f"{server.url}/v1beta/files/f:download"
        script.usual[LOOK] = interaction("completed", video_at(uri))
        yield server


@pytest.fixture
async def make(gemini: FakeHttp) -> AsyncIterator[Make]:
    made = []

    def backend(**changes: Any) -> GeminiOmniBackend:
        options = {"image_size": 64, "deadline_s": 20.0, "sleep": Pauses(), **changes}
        url = f"{gemini.url}/v1beta"
        made.append(GeminiOmniBackend(SecretStr(KEY), base_url=url, **options))
        return made[-1]

    yield backend
    for each in made:
        await each.close()


async def generate(backend: GeminiOmniBackend) -> BackendVideo:
    return await backend.generate(a_request(), no_progress)


async def failure(backend: GeminiOmniBackend) -> Gen2ActError:
    with pytest.raises(Gen2ActError) as caught:
        await generate(backend)
    assert KEY not in str(caught.value) + str(caught.value.metadata)
    return caught.value


async def test_the_scene_is_padded_and_the_video_cropped_back(make: Make, gemini: FakeHttp) -> None:
    made = await generate(make())
    assert made.frames.shape == (25, 64, 64, 3)
    assert made.fps == pytest.approx(FPS)
    assert made.model == "gemini-omni-1.1-flash"
    gate.check(made.frames, scene_picture(), starts_at_scene=True)
    sent = json.loads(gemini.requests[0].body)
    picture, words = sent.pop("input")
    assert sent == {
        "model": "gemini-omni-1.1-flash",
        "background": True,
        "response_format": {
            "type": "video",
            "delivery": "uri",
            "aspect_ratio": "16:9",
            "resolution": "360p",
            "duration": "3s",
        },
    }
    assert words["text"].startswith("A person opening the drawer, static camera")
    assert (picture["type"], picture["mime_type"]) == ("image", "image/png")
    padded = np.asarray(Image.open(BytesIO(base64.b64decode(picture["data"]))))
    assert padded.shape == (360, 640, 3)
    assert not padded[:, :140].any() and not padded[:, 500:].any()
    assert padded[:, 140:500].any(axis=(0, 2)).all()


async def test_the_key_goes_with_every_request_to_the_service(make: Make, gemini: FakeHttp) -> None:
    await generate(make())
    assert [str(each) for each in gemini.requests] == [CREATE, LOOK, f"{FILE}?alt=media"]
    assert {each.headers["x-goog-api-key"] for each in gemini.requests} == {KEY}


async def test_a_video_inside_the_answer_is_taken_too(make: Make, script: Script) -> None:
    inline = {"type": "video", "data": base64.b64encode(MP4).decode()}
    script.usual[LOOK] = interaction("completed", {"type": "text", "text": "here"}, inline)
    assert len((await generate(make())).frames) == 25
    script.usual[LOOK] = interaction("completed", {"type": "video", "data": "$$$"})
    assert "no base64" in str(await failure(make()))


async def test_it_is_waited_for(make: Make, script: Script) -> None:
    script.once[LOOK] = [interaction("in_progress"), Reply(429), Reply(503), Reply(drop=True)]
    script.once[FILE] = [Reply(404), Reply(500)]
    assert len((await generate(make())).frames) == 25


async def test_words_instead_of_a_video_are_a_refusal(make: Make, script: Script) -> None:
    script.usual[LOOK] = interaction("completed", {"type": "text", "text": "I cannot show this."})
    error = await failure(make())
    assert type(error) is UnsupportedInstruction
    assert "I cannot show this." in str(error)
    script.usual[LOOK] = interaction("completed")
    assert "does not say why" in str(await failure(make()))


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            as_json(
                [{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}], 429
            ),
            QuotaExceeded,
            "takes no more requests",
        ),
        (
            as_json([{"error": {"code": 400, "message": f"API key not valid {KEY}"}}], 400),
            BackendRequires,
            "API key not valid ***",
        ),
        (
            as_json({"error": {"code": 400, "message": "violates our safety policies"}}, 400),
            UnsupportedInstruction,
            "violates",
        ),
        (as_json({"error": {"message": "?"}}, 403), BackendRequires, "GEN2ACT_GEMINI_API_KEY"),
        (Reply(503), ResultLost, "not sent again"),
        (Reply(drop=True), ResultLost, "not sent again"),
        (Reply(body=b"<html>"), ResultLost, "does not describe an interaction"),
        (as_json({"status": "in_progress"}), ResultLost, "names no interaction"),
    ],
)
async def test_a_create_request_is_sent_once_whatever_is_answered(
    make: Make,
    script: Script,
    gemini: FakeHttp,
    reply: Reply,
    kind: type[Gen2ActError],
    words: str,
) -> None:
    script.usual[CREATE] = reply
    error = await failure(make())
    assert type(error) is kind
    assert words in str(error)
    assert len(gemini.requests) == 1


async def test_an_unknown_interaction_is_not_asked_for_again(
    make: Make, script: Script, gemini: FakeHttp
) -> None:
    script.usual[LOOK] = as_json([{"error": {"code": 400, "message": "unknown id"}}], 400)
    error = await failure(make())
    assert type(error) is ResultLost
    assert "unknown id" in str(error)
    assert len(gemini.seen("GET")) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (interaction("failed", error={"message": "internal"}), GenerationFailed),
        (interaction("incomplete"), GenerationFailed),
        (interaction("failed", error={"message": "prohibited content"}), UnsupportedInstruction),
    ],
)
async def test_a_failed_interaction_is_told_from_a_refusal(
    make: Make, script: Script, reply: Reply, kind: type[Gen2ActError]
) -> None:
    script.usual[LOOK] = reply
    assert type(await failure(make())) is kind


@pytest.mark.parametrize("shown", ["127.0.0.1", "evil.example"])
async def test_nothing_is_sent_to_a_host_that_is_not_the_services(
    make: Make, script: Script, shown: str
) -> None:
    async with FakeHttp(lambda _: Reply(body=MP4, kind="video/mp4")) as other:
        uri = f"http://{shown}:{other.port}/video"
        script.usual[LOOK] = interaction("completed", video_at(uri))
        error = await failure(make())
        assert type(error) is ResultLost
        assert shown in str(error)
        assert not other.requests


@pytest.mark.parametrize("redirected", [False, True])
async def test_a_media_host_is_read_without_the_key(
    make: Make, script: Script, redirected: bool
) -> None:
    async with FakeHttp(lambda _: Reply(body=MP4, kind="video/mp4"), host="localhost") as media:
        uri = f"{media.url}/video"
        if redirected:
            script.usual[FILE] = Reply(302, headers={"Location": uri})
        else:
            script.usual[LOOK] = interaction("completed", video_at(uri))
        assert len((await generate(make(media_hosts=("localhost",)))).frames) == 25
        (read,) = media.requests
        assert "x-goog-api-key" not in read.headers


async def test_a_media_host_must_be_encrypted() -> None:
    backend = GeminiOmniBackend(SecretStr(KEY))
    permitted = backend._http._permitted
    assert permitted("https://storage.googleapis.com/v").host == "storage.googleapis.com"
    for uri in (
        "http://storage.googleapis.com/v",
        "https://googleapis.com.evil.example/v",
        "https://evilgoogleapis.com/v",
        "ftp://storage.googleapis.com/v",
        "https://[",
    ):
        with pytest.raises(ResultLost):
            permitted(uri)
    await backend.close()


async def test_a_video_that_ends_early_is_a_failed_generation(make: Make, script: Script) -> None:
    script.usual[FILE] = Reply(body=encode_mp4(wide_video(2), FPS), kind="video/mp4")
    error = await failure(make())
    assert type(error) is GenerationFailed
    assert "2.0 s where 3 s" in str(error)


async def test_leaving_cancels_the_interaction(
    make: Make, script: Script, gemini: FakeHttp
) -> None:
    script.usual[LOOK] = Reply(never=True)
    call = asyncio.create_task(generate(make()))
    await gemini.until(LOOK)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert str(gemini.requests[-1]) == CANCEL
