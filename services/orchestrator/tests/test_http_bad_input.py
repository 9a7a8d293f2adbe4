"""What bad input over HTTP gets: problem details that name the value, and a service that stays."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from gen2act_contracts.video import encode_mp4
from gen2act_orchestrator.testing import FakeRobot

if TYPE_CHECKING:
    from conftest import Replica, World


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem = dict(answer.json())
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["title"] and problem["detail"]
    assert problem["type"] == f"urn:gen2act:error:{code}"
    assert "Traceback" not in answer.text
    return problem


async def nothing_was_accepted(replica: Replica) -> bool:
    return (await replica.http.get("/tasks")).json()["tasks"] == []


@pytest.mark.parametrize("instruction", ["", "   ", "\n", "…"])
async def test_an_empty_instruction(replica: Replica, instruction: str) -> None:
    answer = await replica.http.post("/tasks", json={"instruction": instruction})
    problem = assert_problem(answer, 422, "INVALID_INSTRUCTION")
    assert "make coffee" in problem["detail"]
    assert await nothing_was_accepted(replica)


async def test_an_instruction_of_ten_kilobytes(replica: Replica) -> None:
    answer = await replica.http.post("/tasks", json={"instruction": "open " * 2048})
    problem = assert_problem(answer, 422, "INVALID_INSTRUCTION")
    assert "at most 1000" in problem["detail"]


async def test_an_instruction_that_is_not_utf8(replica: Replica) -> None:
    answer = await replica.http.post(
        "/tasks",
        content=b'{"instruction": "open the \xff\xfe drawer"}',
        headers={"Content-Type": "application/json"},
    )
    problem = assert_problem(answer, 400, "INVALID_INPUT")
    assert "UTF-8" in problem["detail"]


async def test_an_instruction_with_a_lone_surrogate(replica: Replica) -> None:
    answer = await replica.http.post(
        "/tasks",
        content=b'{"instruction": "open the \\ud800 drawer"}',
        headers={"Content-Type": "application/json"},
    )
    assert_problem(answer, 422, "INVALID_INSTRUCTION")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.instruction"),
        ({"instruction": 5}, "body.instruction"),
        ({"instruction": "open the door", "max_ticks": 0}, "body.max_ticks"),
        ({"instruction": "open the door", "max_ticks": "many"}, "body.max_ticks"),
        ({"instruction": "open the door", "seed": -1}, "body.seed"),
        ({"instruction": "open the door", "seed": 2**70}, "body.seed"),
        ({"instruction": "open the door", "stages": []}, "body.stages"),
        ({"instruction": "open the door", "stages": ["open"] * 13}, "body.stages"),
        ({"instruction": "open the door", "video": "../../etc/passwd"}, "body.video"),
        ({"instruction": "open the door", "robot": "r"}, "body.robot"),
        ([], "body"),
        ("text", "body"),
    ],
)
async def test_a_body_of_the_wrong_shape_says_where(
    replica: Replica, body: Any, where: str
) -> None:
    problem = assert_problem(
        await replica.http.post("/tasks", json=body),
        422,
        "INVALID_INSTRUCTION" if where == "body.instruction" else "INVALID_INPUT",
    )
    assert any(error["where"].startswith(where) for error in problem["errors"])


@pytest.mark.parametrize("content", [b"{", b"", b"\x00", b"[" * 20_000])
async def test_a_body_that_is_no_json(replica: Replica, content: bytes) -> None:
    answer = await replica.http.post(
        "/tasks", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.status_code in (400, 422)


async def test_a_body_beyond_the_limit(replica: Replica) -> None:
    answer = await replica.http.post("/tasks", json={"instruction": "x" * 100_000})
    assert_problem(answer, 413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("stage", ["", "x" * 201, "\x07"])
async def test_a_bad_stage(replica: Replica, stage: str) -> None:
    body = {"instruction": "open the door", "stages": ["open the door", stage]}
    assert_problem(await replica.http.post("/tasks", json=body), 422, "INVALID_INSTRUCTION")


async def test_an_activity_that_needs_a_language_model(replica: Replica) -> None:
    answer = await replica.http.post("/tasks", json={"instruction": "do the laundry"})
    problem = assert_problem(answer, 422, "UNKNOWN_ACTIVITY")
    assert "GEN2ACT_LLM_BASE_URL" in problem["detail"]
    assert await nothing_was_accepted(replica)


async def test_an_unknown_robot(replica: Replica, robot: FakeRobot) -> None:
    body = {"instruction": "open the door", "robot_id": "nobody"}
    problem = assert_problem(await replica.http.post("/tasks", json=body), 404, "UNKNOWN_ROBOT")
    assert "robot-1" in problem["detail"]
    for path in ("stop", "resume"):
        answer = await replica.http.post(f"/robots/nobody/{path}")
        assert_problem(answer, 404, "UNKNOWN_ROBOT")
    assert_problem(await replica.http.get("/robots/nobody"), 404, "UNKNOWN_ROBOT")


@pytest.mark.parametrize("path", ["", "/events", "/stages/0/first.jpg", "/stages/0/human.mp4"])
async def test_an_unknown_task(replica: Replica, path: str) -> None:
    assert_problem(await replica.http.get(f"/tasks/nothing{path}"), 404, "UNKNOWN_TASK")


@pytest.mark.parametrize("move", ["cancel", "pause", "resume"])
async def test_moving_an_unknown_task(replica: Replica, move: str) -> None:
    assert_problem(await replica.http.post(f"/tasks/nothing/{move}"), 404, "UNKNOWN_TASK")


async def test_artefacts_that_are_not_there_yet(replica: Replica) -> None:
    task_id = await replica.submit("open the drawer")
    await replica.until(task_id, "waiting_for_robot")
    for name in ("first.jpg", "last.jpg", "rollout.mp4", "human.mp4"):
        answer = await replica.http.get(f"/tasks/{task_id}/stages/0/{name}")
        assert_problem(answer, 404, "ARTEFACT_MISSING")
    answer = await replica.http.get(f"/tasks/{task_id}/stages/7/first.jpg")
    assert "1 stages" in assert_problem(answer, 404, "ARTEFACT_MISSING")["detail"]
    answer = await replica.http.get(f"/tasks/{task_id}/stages/x/first.jpg")
    assert_problem(answer, 422, "INVALID_INPUT")


async def test_a_video_id_that_is_unknown_or_expired(replica: Replica) -> None:
    body = {"instruction": "open the drawer", "video": "0" * 64}
    assert_problem(await replica.http.post("/tasks", json=body), 404, "VIDEO_EXPIRED")
    assert await nothing_was_accepted(replica)


async def test_a_number_of_videos_that_fits_no_stage(world: World, replica: Replica) -> None:
    video_id = await upload(replica)
    body = {"instruction": "tidy", "stages": ["open the door"], "video": [video_id] * 2}
    problem = assert_problem(await replica.http.post("/tasks", json=body), 422, "INVALID_INPUT")
    assert "2 uploaded videos for 1 stage" in problem["detail"]


async def test_the_file_backend_without_a_video(replica: Replica) -> None:
    body = {"instruction": "open the drawer", "backend": "file"}
    problem = assert_problem(await replica.http.post("/tasks", json=body), 422, "INVALID_INPUT")
    assert "POST /videos" in problem["detail"]


@pytest.mark.parametrize("bad", ["not-an-id", "1-2-3", "99999999999999999999999-0"])
async def test_a_last_event_id_that_is_none(replica: Replica, bad: str) -> None:
    task_id = await replica.submit("open the drawer")
    answer = await replica.http.get(f"/tasks/{task_id}/events", headers={"Last-Event-ID": bad})
    assert_problem(answer, 422, "INVALID_INPUT")


@pytest.mark.parametrize("query", ["limit=0", "limit=1000", "cursor=x", "cursor=-1"])
async def test_a_bad_page(replica: Replica, query: str) -> None:
    assert_problem(await replica.http.get(f"/tasks?{query}"), 422, "INVALID_INPUT")


@pytest.mark.parametrize("key", ["", "x" * 201])
async def test_a_bad_idempotency_key(replica: Replica, key: str) -> None:
    answer = await replica.http.post(
        "/tasks", json={"instruction": "open the door"}, headers={"Idempotency-Key": key}
    )
    assert_problem(answer, 422, "INVALID_INPUT")


async def test_unknown_paths_and_methods(replica: Replica) -> None:
    assert_problem(await replica.http.get("/nowhere"), 404, "NOT_FOUND")
    assert_problem(await replica.http.delete("/tasks"), 405, "METHOD_NOT_ALLOWED")


async def upload(replica: Replica) -> str:
    noise = np.random.default_rng(0).integers(0, 255, (16, 128, 128, 3), np.uint8)
    mp4 = encode_mp4(noise, 8.0)
    assert len(mp4) > 64 * 1024  # beyond the limit of every other body
    answer = await replica.http.post("/videos", content=mp4)
    assert answer.status_code == 201, answer.text
    assert answer.json()["frames"] == 16
    return str(answer.json()["video_id"])


async def test_an_uploaded_video_is_what_the_file_backend_gets(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    video_id = await upload(replica)
    task_id = await replica.submit("open and close the drawer", video=video_id)
    await replica.until(task_id, "succeeded")
    assert [r.source_video_id for r in world.videogen.requests] == [video_id, video_id]
    assert {r.backend for r in world.videogen.requests} == {"file"}


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG")
    return out.getvalue()


def truncated() -> bytes:
    whole = encode_mp4(np.zeros((16, 64, 64, 3), np.uint8), 8.0)
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    "body", [b"", b"not a video", jpeg(), truncated(), b"#EXTM3U\nfile:///etc/passwd"]
)
async def test_an_upload_that_is_no_video(replica: Replica, body: bytes) -> None:
    assert_problem(await replica.http.post("/videos", content=body), 422, "INVALID_VIDEO")


async def test_an_upload_of_one_picture(replica: Replica) -> None:
    still = encode_mp4(np.zeros((1, 64, 64, 3), np.uint8), 8.0)
    problem = assert_problem(
        await replica.http.post("/videos", content=still), 422, "INVALID_VIDEO"
    )
    assert "at least 2" in problem["detail"]


async def test_an_upload_as_a_form_is_told_how_to_do_it(replica: Replica) -> None:
    answer = await replica.http.post("/videos", files={"file": ("a.mp4", b"x", "video/mp4")})
    problem = assert_problem(answer, 422, "INVALID_VIDEO")
    assert "as the body" in problem["detail"]


async def test_an_upload_beyond_the_limit(replica: Replica) -> None:
    answer = await replica.http.post("/videos", content=b"\0" * (32 * 1024 * 1024 + 1))
    assert_problem(answer, 413, "BODY_TOO_LARGE")


async def test_redis_down(world: World, replica: Replica) -> None:
    task_id = await replica.submit("open the drawer")
    world.redis.kill()
    for method, path in [
        ("GET", "/tasks"),
        ("GET", f"/tasks/{task_id}"),
        ("GET", f"/tasks/{task_id}/events"),
        ("GET", "/robots"),
        ("POST", f"/tasks/{task_id}/cancel"),
        ("GET", "/readyz"),
    ]:
        answer = await replica.http.request(method, path)
        problem = assert_problem(answer, 503, "STORE_UNAVAILABLE")
        assert problem["retryable"]
        assert answer.headers["Retry-After"]
    answer = await replica.http.post("/tasks", json={"instruction": "open the drawer"})
    assert_problem(answer, 503, "STORE_UNAVAILABLE")
    assert (await replica.http.get("/livez")).status_code == 200
    world.redis.start()
    assert (await replica.http.get("/readyz")).status_code == 200
    assert [t["id"] for t in (await replica.http.get("/tasks")).json()["tasks"]] == [task_id]


async def test_redis_down_at_start(world: World) -> None:
    world.redis.kill()
    async with world.replica() as replica:
        assert_problem(await replica.http.get("/readyz"), 503, "STORE_UNAVAILABLE")
        world.redis.start()
        assert (await replica.http.get("/readyz")).status_code == 200
        async with FakeRobot(replica.gateway).attach():
            await replica.until(await replica.submit("open the drawer"), "succeeded")


async def test_the_api_describes_itself_with_examples(replica: Replica) -> None:
    spec = (await replica.http.get("/openapi.json")).json()
    assert spec["components"]["schemas"]["TaskRequest"]["examples"]
    assert spec["components"]["schemas"]["Problem"]["examples"]
    assert set(spec["paths"]) >= {
        "/tasks",
        "/tasks/{task_id}",
        "/tasks/{task_id}/events",
        "/tasks/{task_id}/cancel",
        "/tasks/{task_id}/pause",
        "/tasks/{task_id}/resume",
        "/tasks/{task_id}/stages/{number}/human.mp4",
        "/tasks/{task_id}/stages/{number}/rollout.mp4",
        "/tasks/{task_id}/stages/{number}/first.jpg",
        "/tasks/{task_id}/stages/{number}/last.jpg",
        "/videos",
        "/robots",
        "/robots/{robot_id}/stop",
        "/robots/{robot_id}/resume",
        "/livez",
        "/readyz",
        "/metrics",
    }
