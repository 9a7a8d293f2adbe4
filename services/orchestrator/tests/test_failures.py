"""Anything may go away at any time: the task is completed, or fails with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog

from gen2act_contracts.errors import (
    BackendRequires,
    GenerationFailed,
    Overloaded,
    StoreUnavailable,
    UnsupportedInstruction,
    VideoExpired,
    VideoRejected,
)
from gen2act_contracts.pb import common
from gen2act_orchestrator.service.patience import Patience
from gen2act_orchestrator.testing import FakeRobot, serving
from gen2act_orchestrator.testing.robot import picture
from gen2act_servicekit.testing import eventually

if TYPE_CHECKING:
    from conftest import Replica, World


async def test_a_robot_that_comes_back_begins_its_stage_again(replica: Replica) -> None:
    robot = FakeRobot(replica.gateway, ticks_to_done=None)
    async with robot.attach():
        task_id = await replica.submit("open and close the drawer", max_ticks=600)
        await replica.until_stage(task_id, 0, "rolling_out")
    task = await replica.until(task_id, "waiting_for_robot")
    assert task["deadline"] is not None
    robot.ticks_to_done = 1
    async with robot.attach():
        task = await replica.until(task_id, "succeeded")
    assert [stage["attempts"] for stage in task["stages"]] == [2, 1]
    assert task["stages"][0]["failure"] is None


async def test_a_new_process_of_the_robot_may_take_over(replica: Replica) -> None:
    async with FakeRobot(replica.gateway, ticks_to_done=None).attach():
        task_id = await replica.submit("open the drawer", max_ticks=600)
        await replica.until_stage(task_id, 0, "rolling_out")
    await replica.until(task_id, "waiting_for_robot")

    async def is_free() -> bool:
        return not (await replica.http.get("/robots/robot-1")).json()["attached"]

    await eventually(is_free)
    async with FakeRobot(replica.gateway).attach():
        await replica.until(task_id, "succeeded")


async def test_a_robot_that_stays_away_fails_the_task(world: World) -> None:
    world.limit(robot_wait_s=0.2)
    async with world.replica() as replica:
        async with FakeRobot(replica.gateway, ticks_to_done=None).attach():
            task_id = await replica.submit("open the drawer", max_ticks=600)
            await replica.until_stage(task_id, 0, "rolling_out")
        task = await replica.until(task_id, "failed")
    assert task["failure"]["code"] == "ROBOT_LOST"
    assert "did not come back" in task["failure"]["message"]


async def test_a_stage_that_keeps_losing_its_robot_fails(world: World) -> None:
    world.limit(max_restarts=1)
    async with world.replica() as replica:
        robot = FakeRobot(replica.gateway, ticks_to_done=None)
        async with robot.attach():
            task_id = await replica.submit("open the drawer", max_ticks=600)
            await replica.until_stage(task_id, 0, "rolling_out")
        await replica.until(task_id, "waiting_for_robot")
        async with robot.attach():
            await replica.until_stage(task_id, 0, "rolling_out")
        task = await replica.until(task_id, "failed")
    assert "begun 2 times" in task["failure"]["message"]


async def test_a_robot_that_lost_the_policy_begins_its_stage_again(
    replica: Replica, robot: FakeRobot
) -> None:
    robot.ends_with = ["POLICY_LOST"]
    robot.ticks_to_done = 5
    task_id = await replica.submit("open the drawer")
    task = await replica.until(task_id, "succeeded", "failed")
    assert task["status"] == "succeeded"
    assert task["stages"][0]["attempts"] == 2
    kinds = [kind for _, kind, _ in await replica.events(task_id)]
    assert "stage.restarted" in kinds


async def test_a_robot_that_keeps_losing_the_policy_fails_the_task(
    replica: Replica, robot: FakeRobot
) -> None:
    robot.ends_with = ["POLICY_LOST"] * 10
    robot.ticks_to_done = 5
    task = await replica.until(await replica.submit("open the drawer"), "succeeded", "failed")
    assert task["failure"]["code"] == "PEER_UNAVAILABLE"
    assert "begun 4 times" in task["failure"]["message"]
    assert len(robot.told("reset_and_capture")) == 4


@pytest.mark.parametrize(
    ("reason", "code", "ended_by"),
    [("SAFETY", "UNSAFE_ACTION", "safety"), ("STOPPED", "ROBOT_STOPPED", "stopped")],
)
async def test_an_end_for_safety_is_final(
    replica: Replica, robot: FakeRobot, reason: str, code: str, ended_by: str
) -> None:
    robot.ends_with = [reason]
    robot.ticks_to_done = 5
    task = await replica.until(await replica.submit("open the drawer"), "succeeded", "failed")
    assert task["failure"]["code"] == code
    assert task["stages"][0]["ended_by"] == ended_by
    assert len(robot.told("reset_and_capture")) == 1


async def test_a_robot_that_cannot_reach_the_policy_is_tried_again(
    replica: Replica, robot: FakeRobot
) -> None:
    robot.refusals["start_rollout"] = [("PEER_UNAVAILABLE", "connection refused")]
    task = await replica.until(await replica.submit("open the drawer"), "succeeded", "failed")
    assert task["status"] == "succeeded"
    assert task["stages"][0]["attempts"] == 2


async def test_a_refusal_of_the_robot_that_is_final_fails_the_task(
    replica: Replica, robot: FakeRobot
) -> None:
    robot.refusals["start_rollout"] = [("SPEC_MISMATCH", "period too short")]
    task = await replica.until(await replica.submit("open the drawer"), "succeeded", "failed")
    assert task["failure"]["code"] == "SPEC_MISMATCH"
    assert "period too short" in task["failure"]["message"]


async def test_a_robot_that_does_not_answer_fails_the_task_in_the_end(world: World) -> None:
    world.run = replace(world.run, reset_s=0.1)
    world.limit(max_restarts=1)
    async with world.replica() as replica, FakeRobot(replica.gateway).attach() as robot:
        robot.answering.clear()
        task = await replica.until(await replica.submit("open the drawer"), "failed")
    assert task["failure"]["code"] == "DEADLINE_EXCEEDED"
    assert "reset_and_capture" in task["failure"]["message"]


async def test_a_rollout_that_freezes_is_begun_again(world: World) -> None:
    world.run = replace(world.run, tick_s=0.2)
    async with world.replica() as replica, FakeRobot(replica.gateway).attach() as robot:
        robot.ticking.clear()
        task_id = await replica.submit("open the drawer")
        await eventually(lambda: len(robot.told("start_rollout")) == 2, what="a second rollout")
        assert len(robot.told("end_rollout")) == 1
        robot.ticking.set()
        await replica.until(task_id, "succeeded")


def not_square() -> common.Image:
    image = picture()
    image.width = 128
    return image


def truncated() -> common.Image:
    image = picture()
    image.data = image.data[:100]
    return image


def bomb() -> common.Image:
    image = picture()
    image.width = image.height = 20_000
    return image


def tiny() -> common.Image:
    return common.Image(encoding=common.IMAGE_ENCODING_RAW_RGB8, width=1, height=1, data=b"\0\0\0")


@pytest.mark.parametrize("image", [common.Image, not_square, truncated, bomb, tiny])
async def test_a_scene_that_is_no_square_image_fails_the_task(
    replica: Replica, robot: FakeRobot, image: object
) -> None:
    robot.scene = image  # type: ignore[assignment]
    task = await replica.until(await replica.submit("open the drawer"), "succeeded", "failed")
    assert task["failure"]["code"] == "INVALID_IMAGE"
    robot.scene = picture
    await replica.until(await replica.submit("open the drawer"), "succeeded")


async def test_the_events_tell_that_a_video_is_made_again(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    again = "rendering (attempt 2 of 3: the video was refused: it is static)"
    world.videogen.phases = ("rendering", again, "rendering (with b; a: HTTP 429)")
    task = await replica.until(await replica.submit("open the drawer"), "succeeded")
    told = [
        json.loads(data)["data"]["phase"]
        for _, kind, data in await replica.events(task["id"])
        if kind == "video.progress"
    ]
    assert told == list(world.videogen.phases)


async def test_a_video_that_is_refused_in_the_end_fails_the_task(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    world.videogen.failures = [VideoRejected("the video does not show the scene")]
    task = await replica.until(await replica.submit("open the drawer"), "failed")
    assert task["failure"]["code"] == "VIDEO_REJECTED"
    assert "does not show the scene" in task["failure"]["message"]
    assert robot.told("start_rollout") == []


@pytest.mark.parametrize(
    "error",
    [
        BackendRequires("backend 'demonstrator' requires simulator state"),
        UnsupportedInstruction("no such task"),
        GenerationFailed("out of memory"),
    ],
)
async def test_a_generation_that_cannot_work_is_not_repeated(
    world: World, replica: Replica, robot: FakeRobot, error: GenerationFailed
) -> None:
    world.videogen.failures = [error]
    task = await replica.until(await replica.submit("open the drawer"), "failed")
    assert task["failure"] == {"code": error.code, "message": error.message}
    assert len(world.videogen.requests) == 1


@pytest.mark.parametrize("error", [Overloaded("busy"), StoreUnavailable("Redis is away")])
async def test_a_peer_that_is_busy_is_asked_again(
    world: World, replica: Replica, robot: FakeRobot, error: Overloaded
) -> None:
    world.videogen.failures = [error, error]
    world.policy.failures = [error]
    task = await replica.until(await replica.submit("open the drawer"), "succeeded")
    assert task["stages"][0]["attempts"] == 1
    assert len(robot.told("reset_and_capture")) == 1


async def test_a_video_that_expired_before_its_use_is_made_again(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    world.policy.failures = [VideoExpired("gone")]
    task = await replica.until(await replica.submit("open the drawer"), "succeeded")
    assert task["stages"][0]["attempts"] == 2
    assert len(world.videogen.requests) == 2


async def test_a_video_service_that_is_killed_amid_a_generation_is_waited_for(
    world: World,
) -> None:
    world.videogen.gate.clear()
    async with serving(world.videogen) as (address, port):
        replica_context = world.replica(videogen=address)
        replica = await replica_context.__aenter__()
        robot_context = FakeRobot(replica.gateway).attach()
        await robot_context.__aenter__()
        task_id = await replica.submit("open the drawer")
        await eventually(lambda: len(world.videogen.requests) == 1)
    try:
        assert (await replica.task(task_id))["stages"][0]["status"] == "imagining"
        world.videogen.gate.set()
        async with serving(world.videogen, port):
            await replica.until(task_id, "succeeded")
    finally:
        await robot_context.__aexit__(None, None, None)
        await replica_context.__aexit__(None, None, None)


@pytest.mark.parametrize("peer", ["videogen", "policy"])
async def test_a_peer_that_stays_away_fails_the_task(world: World, peer: str) -> None:
    servicer = world.videogen if peer == "videogen" else world.policy
    async with serving(servicer) as (address, _):
        pass  # gone for good
    world.run = replace(world.run, peer_patience=Patience(0.3, 0.02, 0.1))
    async with (
        world.replica(**{peer: address}) as replica,
        FakeRobot(replica.gateway).attach() as robot,
    ):
        task = await replica.until(await replica.submit("open the drawer"), "failed")
        assert task["failure"]["code"] in ("PEER_UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert "gave up after" in task["failure"]["message"]
        assert robot.told("start_rollout") == []


async def test_redis_killed_amid_a_rollout_does_not_lose_the_task(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    robot.ticks_to_done = None
    task_id = await replica.submit("open and close the drawer", max_ticks=600)
    await replica.until_stage(task_id, 0, "rolling_out")
    queued = await replica.submit("open the door")
    world.redis.kill()
    robot.ticks_to_done = 0
    await eventually(lambda: len(robot.told("end_rollout")) == 1, what="the stage to end")
    world.redis.start()
    task = await replica.until(task_id, "succeeded", "failed")
    assert task["status"] == "succeeded"
    assert [stage["attempts"] for stage in task["stages"]] == [1, 1]
    await replica.until(queued, "succeeded")


async def test_redis_away_for_longer_than_its_patience_holds_the_robot(world: World) -> None:
    world.run = replace(world.run, store_patience=Patience(0.3, 0.02, 0.1))
    async with world.replica() as replica, FakeRobot(replica.gateway).attach() as robot:
        world.videogen.gate.clear()
        task_id = await replica.submit("open the drawer")
        await replica.until_stage(task_id, 0, "imagining")
        await eventually(lambda: len(world.videogen.requests) == 1)
        with structlog.testing.capture_logs() as logged:
            world.redis.kill()
            world.videogen.gate.set()
            await eventually(lambda: any("the store stayed away" in e["event"] for e in logged))
        assert robot.told("start_rollout") == []  # what cannot be written is not done
        world.redis.start()
        task = await replica.until(task_id, "succeeded", "failed")
        assert task["status"] == "succeeded"
