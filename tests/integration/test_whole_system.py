"""The whole system with a mocked robot: real services, real bundle, real HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from gen2act_contracts.errors import RobotIdInUse, SpecMismatch
from gen2act_contracts.spec import ActionDimension
from gen2act_contracts.video import decode_mp4
from gen2act_robot.client import ClientConfig, RobotClient
from gen2act_robot.commands import LoopConfig
from gen2act_robot.drivers import load_driver
from gen2act_robot.robot import RobotLimits
from gen2act_robot.testing import until
from gen2act_robot.transport import Backoff
from harness.bundle import write_bundle
from harness.robot import StagedRobot, attached
from harness.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
STAGES = ["open the drawer", "close the drawer"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    environment = {
        "GEN2ACT_BUNDLE": str(write_bundle(folder / "bundle")),
        "GEN2ACT_VIDEO_BACKENDS": "file",
        "GEN2ACT_LEASE_S": "1.5",
    }
    async with running_stack(folder, environment) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def video(stack: Stack) -> str:
    """Id of an uploaded recording."""
    return await stack.upload_video()


async def test_a_task_goes_from_words_to_done(stack: Stack, video: str) -> None:
    robot = StagedRobot()
    async with attached(robot, "arm-1", orchestrator=stack.gateway, policy=stack.policy):
        task_id = await stack.submit(
            instruction="open and close the drawer", robot_id="arm-1", video=video
        )
        task = await stack.until_over(task_id)

    assert task.status == "succeeded", task
    assert [stage.task for stage in task.stages] == STAGES  # the planner's, not the user's
    for stage in task.stages:
        assert stage.ended_by == "terminate"
        assert robot.actions_per_stage <= stage.ticks <= robot.actions_per_stage + 4
    assert [reset.task for reset in robot.recorded.resets] == STAGES
    assert [reset.new_scene for reset in robot.recorded.resets] == [True, False]
    assert all(abs(float(x) - 0.00488) < 1e-3 for x in robot.recorded.actions[0].displacement)


async def test_artefacts_of_a_stage_can_be_fetched(stack: Stack, video: str) -> None:
    robot = StagedRobot()
    async with attached(robot, "arm-2", orchestrator=stack.gateway, policy=stack.policy):
        task_id = await stack.submit(
            instruction="x", stages=STAGES[:1], robot_id="arm-2", video=video
        )
        task = await stack.until_over(task_id)
    async with stack.client() as client:
        path = f"/tasks/{task_id}/stages/0"
        human = decode_mp4((await client.get(f"{path}/human.mp4")).content)[0]
        rollout = decode_mp4((await client.get(f"{path}/rollout.mp4")).content)[0]
        first = await client.get(f"{path}/first.jpg")
        last = await client.get(f"{path}/last.jpg")
    assert len(human) >= 16
    assert abs(len(rollout) - task.stages[0].ticks) <= 2
    assert rollout[0].mean() < 100 < rollout[-1].mean()  # dark while moving, bright at the end
    assert first.content[:2] == last.content[:2] == b"\xff\xd8"


async def test_events_tell_the_story_and_resume_where_they_broke(stack: Stack, video: str) -> None:
    robot = StagedRobot()
    async with attached(robot, "arm-3", orchestrator=stack.gateway, policy=stack.policy):
        task_id = await stack.submit(
            instruction="x", stages=STAGES[:1], robot_id="arm-3", video=video
        )
        await stack.until_over(task_id)
    all_events = await read_events(stack, task_id)
    kinds = [kind for _, kind, _ in all_events]
    order = ["task.queued", "task.running", "stage.resetting", "stage.imagining"]
    order += ["stage.preparing", "stage.rolling_out", "stage.tick", "stage.done", "task.succeeded"]
    assert sorted(order, key=kinds.index) == order
    middle = all_events[len(all_events) // 2][0]

    rest = await read_events(stack, task_id, last_event_id=middle)

    assert rest == all_events[len(all_events) // 2 + 1 :]


async def read_events(
    stack: Stack, task_id: str, last_event_id: str = ""
) -> list[tuple[str, str, dict[str, object]]]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with stack.client() as client:
        text = (await client.get(f"/tasks/{task_id}/events", headers=headers)).text
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    return found


async def test_tasks_of_two_robots_run_side_by_side(stack: Stack, video: str) -> None:
    one, two = StagedRobot(15), StagedRobot(15)
    async with (
        attached(one, "left", orchestrator=stack.gateway, policy=stack.policy),
        attached(two, "right", orchestrator=stack.gateway, policy=stack.policy),
    ):
        ids = [
            await stack.submit(instruction="x", stages=STAGES[:1], robot_id=name, video=video)
            for name in ("left", "right")
        ]
        await until(lambda: one.applied > 2 and two.applied > 2, what="both to move")
        both_moving = one.applied < 15 and two.applied < 15
        tasks = [await stack.until_over(task_id) for task_id in ids]
    assert both_moving
    assert [task.status for task in tasks] == ["succeeded", "succeeded"]


async def test_paused_robot_holds_and_resumed_robot_goes_on(stack: Stack, video: str) -> None:
    robot = StagedRobot(actions_per_stage=15)
    async with (
        attached(robot, "arm-4", orchestrator=stack.gateway, policy=stack.policy),
        stack.client() as client,
    ):
        task_id = await stack.submit(
            instruction="x", stages=STAGES[:1], robot_id="arm-4", video=video
        )
        await until(lambda: robot.applied >= 3)
        await client.post(f"/tasks/{task_id}/pause")
        await until(lambda: robot.holds_since_last_action() >= 3, what="the robot to hold")
        at_pause = robot.applied
        assert (await stack.task(task_id)).status == "paused"
        await client.post(f"/tasks/{task_id}/resume")
        task = await stack.until_over(task_id)
    assert task.status == "succeeded"
    assert at_pause < 15 <= robot.applied
    assert len(robot.recorded.resets) == 1  # it went on; it did not begin again


async def test_cancelled_task_leaves_the_robot_holding(stack: Stack, video: str) -> None:
    robot = StagedRobot(actions_per_stage=500)
    async with (
        attached(robot, "arm-5", orchestrator=stack.gateway, policy=stack.policy),
        stack.client() as client,
    ):
        task_id = await stack.submit(instruction="x", stages=STAGES, robot_id="arm-5", video=video)
        await until(lambda: robot.applied >= 3)
        await client.post(f"/tasks/{task_id}/cancel")
        task = await stack.until_over(task_id)
        await until(lambda: robot.holds_since_last_action() > 0, what="the robot to hold")
    assert task.status == "cancelled"
    assert [stage.status for stage in task.stages] == ["cancelled", "cancelled"]


async def test_stopped_robot_stays_stopped_until_it_is_let_go(stack: Stack, video: str) -> None:
    robot = StagedRobot(actions_per_stage=500)
    async with (
        attached(robot, "arm-6", orchestrator=stack.gateway, policy=stack.policy),
        stack.client() as client,
    ):
        body = {"instruction": "x", "stages": STAGES[:1], "robot_id": "arm-6", "video": video}
        task_id = await stack.submit(**body)
        await until(lambda: robot.applied >= 3)
        await client.post("/robots/arm-6/stop", json={"reason": "a hand came near"})
        task = await stack.until_over(task_id)
        assert task.status == "failed" and task.stages[0].ended_by == "stopped"
        assert any("a hand came near" in reason for reason in robot.recorded.stops)
        robot.actions_per_stage = 3
        waiting = await stack.submit(**body)
        assert not (await stack.task(waiting)).is_over
        await client.post("/robots/arm-6/resume")
        assert (await stack.until_over(waiting)).status == "succeeded"


async def test_repeating_a_request_under_its_key_makes_one_task(stack: Stack, video: str) -> None:
    robot = StagedRobot(actions_per_stage=2)
    async with (
        attached(robot, "arm-7", orchestrator=stack.gateway, policy=stack.policy),
        stack.client() as client,
    ):
        body = {"instruction": "x", "stages": STAGES[:1], "robot_id": "arm-7", "video": video}
        headers = {"Idempotency-Key": "the-same"}
        first = await client.post("/tasks", json=body, headers=headers)
        again = await client.post("/tasks", json=body, headers=headers)
        other = await client.post("/tasks", json={**body, "instruction": "y"}, headers=headers)
        await stack.until_over(first.json()["id"])
    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 409 and other.json()["code"] == "IDEMPOTENCY_MISMATCH"
    assert len(robot.recorded.resets) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"instruction": ""}, 422, "INVALID_INSTRUCTION"),
        ({"instruction": "x" * 10_000}, 422, "INVALID_INSTRUCTION"),
        ({"instruction": "make coffee", "robot_id": "nobody"}, 404, "UNKNOWN_ROBOT"),
        ({"instruction": "philosophise", "robot_id": "known"}, 422, "UNKNOWN_ACTIVITY"),
        (
            {"instruction": "make coffee", "robot_id": "known", "video": "0" * 64},
            404,
            "VIDEO_EXPIRED",
        ),
        ({"instruction": "make coffee", "max_ticks": 0}, 422, "INVALID_INPUT"),
    ],
)
async def test_bad_requests_are_refused_readably(
    stack: Stack, known: None, body: dict[str, object], status: int, code: str
) -> None:
    async with stack.client() as client:
        response = await client.post("/tasks", json=body)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["detail"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def known(stack: Stack) -> None:
    """A robot that has attached once."""
    robot = StagedRobot()
    async with attached(robot, "known", orchestrator=stack.gateway, policy=stack.policy):
        pass


async def test_an_instruction_that_is_not_utf8_is_refused_readably(stack: Stack) -> None:
    async with stack.client() as client:
        response = await client.post(
            "/tasks",
            content=b'{"instruction": "\xff\xfe"}',
            headers={"Content-Type": "application/json"},
        )
    assert response.status_code in (400, 422)
    assert response.json()["code"] == "INVALID_INPUT"


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00\x18ftypmp42" + b"x" * 99])
async def test_an_upload_that_is_no_video_is_refused_readably(stack: Stack, content: bytes) -> None:
    async with stack.client() as client:
        response = await client.post(
            "/videos", content=content, headers={"Content-Type": "video/mp4"}
        )
    assert response.status_code == 422
    assert response.json()["code"] == "INVALID_VIDEO"


async def test_a_task_without_a_video_says_what_the_backend_needs(stack: Stack) -> None:
    robot = StagedRobot()
    async with attached(robot, "arm-8", orchestrator=stack.gateway, policy=stack.policy):
        task_id = await stack.submit(instruction="x", stages=STAGES[:1], robot_id="arm-8")
        task = await stack.until_over(task_id)
    assert task.status == "failed"
    assert task.failure is not None and task.failure.code == "BACKEND_REQUIRES"
    assert not robot.recorded.actions


async def test_a_robot_that_does_not_fit_the_policy_is_refused_before_it_moves(
    stack: Stack,
) -> None:
    robot = StagedRobot()
    robot.limits = RobotLimits(
        dimensions=(ActionDimension("dx", "m", -0.05, 0.05),),
        frame="base",
        min_control_period_s=0.001,
    )
    client = RobotClient(robot, ClientConfig("misfit", stack.gateway, LoopConfig(stack.policy)))
    with pytest.raises(SpecMismatch, match=r"dy.*base"):
        await asyncio.wait_for(client.run(asyncio.Event()), 30)
    assert set(robot.recorded.calls) <= {"hold", "close"}


async def test_a_second_client_with_the_same_robot_id_is_refused(stack: Stack) -> None:
    async with attached(
        StagedRobot(), "twin", orchestrator=stack.gateway, policy=stack.policy
    ) as first:
        config = ClientConfig(
            "twin",
            stack.gateway,
            LoopConfig(stack.policy),
            in_use_attempts=2,
            in_use_backoff=lambda: Backoff(initial_s=0.05, maximum_s=0.1),
        )
        with pytest.raises(RobotIdInUse, match="twin"):
            await asyncio.wait_for(RobotClient(StagedRobot(), config).run(asyncio.Event()), 30)
        assert first.session.attachments == 1  # the first one was left alone


async def test_a_robot_that_measures_nan_is_stopped_and_the_task_says_why(
    stack: Stack, video: str
) -> None:
    robot = StagedRobot(actions_per_stage=500)
    async with attached(robot, "broken", orchestrator=stack.gateway, policy=stack.policy):
        task_id = await stack.submit(
            instruction="x", stages=STAGES[:1], robot_id="broken", video=video
        )
        await until(lambda: robot.applied >= 2)
        robot.faults.ee_position_m = (float("nan"), 0.0, 0.0)
        task = await stack.until_over(task_id)
    assert task.status == "failed"
    assert task.failure is not None and "nan" in task.failure.message.lower()
    assert robot.recorded.stops


async def test_the_driver_in_the_documents_moves(
    stack: Stack, video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    robot = load_driver("my_arm:MyArm", {"port": "/dev/ttyUSB0"})
    before = robot.observe().ee_position_m
    async with attached(robot, "documented", orchestrator=stack.gateway, policy=stack.policy):
        task_id = await stack.submit(
            instruction="x", stages=STAGES[:1], robot_id="documented", video=video, max_ticks=5
        )
        task = await stack.until_over(task_id)
    assert task.stages[0].ended_by == "tick_budget"  # its camera never shows the bright view
    assert task.failure is not None and task.failure.code == "TICK_BUDGET"
    assert robot.observe().ee_position_m != before


async def test_the_api_has_every_path_of_the_readme(stack: Stack) -> None:
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"localhost:8000(/[^\s`?)\"]*)", readme)) - {"/docs"}
    async with stack.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    patterns = [re.sub(r"\{\w+\}", "[^/]+", path) for path in paths]
    unknown = {n for n in named if not any(re.fullmatch(p, n) for p in patterns)}
    assert len(named) > 8 and not unknown


async def test_services_describe_themselves(stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for port in (stack.ports.videogen_metrics, stack.ports.policy_metrics, stack.ports.http):
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            assert "gen2act_" in text
        openapi = (await client.get(f"{stack.ports.http_url}/openapi.json")).json()
    assert "/tasks/{task_id}/events" in openapi["paths"]


async def test_no_defect_was_logged(stack: Stack) -> None:
    """Runs last: of all that was refused above, nothing surprised a service."""
    for name in ("orchestrator", "policy", "videogen"):
        assert "Traceback" not in (stack.folder / f"{name}.log").read_text(), stack.log(name)
