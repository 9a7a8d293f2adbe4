"""Pause, resume, cancel, and stopping a robot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gen2act_orchestrator.testing import FakeRobot
from gen2act_servicekit.testing import eventually

if TYPE_CHECKING:
    from conftest import Replica, World


async def rolling(replica: Replica, robot: FakeRobot, instruction: str = "open the drawer") -> str:
    """A task whose first stage is rolling out and will not end by itself soon."""
    robot.ticks_to_done = None
    task_id = await replica.submit(instruction, max_ticks=600)
    await replica.until_stage(task_id, 0, "rolling_out")
    await eventually(lambda: robot.ticks >= 2, what="the robot to tick")
    return task_id


async def post(replica: Replica, path: str) -> dict[str, object]:
    answer = await replica.http.post(path)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def test_pause_holds_the_robot_and_resume_lets_it_go_on(
    replica: Replica, robot: FakeRobot
) -> None:
    task_id = await rolling(replica, robot)
    assert (await post(replica, f"/tasks/{task_id}/pause"))["status"] == "paused"
    await eventually(lambda: not robot.moving.is_set(), what="the robot to hold")
    robot.ticks_to_done = 0
    assert (await replica.task(task_id))["status"] == "paused"

    assert (await post(replica, f"/tasks/{task_id}/resume"))["status"] == "running"
    task = await replica.until(task_id, "succeeded", "failed")
    assert task["status"] == "succeeded"
    assert task["stages"][0]["attempts"] == 1  # the same rollout went on
    assert [c.hold.on for c in robot.told("hold")] == [True, False]


async def test_nothing_new_is_begun_during_a_pause(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    world.videogen.gate.clear()
    task_id = await replica.submit("open the drawer")
    await replica.until_stage(task_id, 0, "imagining")
    await post(replica, f"/tasks/{task_id}/pause")
    world.videogen.gate.set()
    await replica.until_stage(task_id, 0, "preparing")
    await eventually(lambda: len(world.policy.prepared) == 1)
    assert (await replica.task(task_id))["status"] == "paused"
    assert robot.told("start_rollout") == []
    await post(replica, f"/tasks/{task_id}/resume")
    await replica.until(task_id, "succeeded")


async def test_a_paused_task_in_the_queue_lets_others_pass(
    replica: Replica, robot: FakeRobot
) -> None:
    first = await rolling(replica, robot)
    second = await replica.submit("open the drawer")
    third = await replica.submit("open the drawer")
    await post(replica, f"/tasks/{second}/pause")
    robot.ticks_to_done = 0
    await replica.until(first, "succeeded")
    await replica.until(third, "succeeded")
    assert (await replica.task(second))["status"] == "paused"
    await post(replica, f"/tasks/{second}/resume")
    await replica.until(second, "succeeded")


async def test_cancel_amid_a_rollout_brings_the_robot_to_rest(
    replica: Replica, robot: FakeRobot
) -> None:
    task_id = await rolling(replica, robot, "open and close the drawer")
    assert (await post(replica, f"/tasks/{task_id}/cancel"))["status"] == "cancelling"
    task = await replica.until(task_id, "cancelled")
    assert not robot.moving.is_set()
    assert len(robot.told("end_rollout")) == 1
    assert [stage["status"] for stage in task["stages"]] == ["cancelled", "cancelled"]
    events = [kind for _, kind, _ in await replica.events(task_id)]
    assert events[-1] == "task.cancelled"


async def test_cancel_amid_a_pause(replica: Replica, robot: FakeRobot) -> None:
    task_id = await rolling(replica, robot)
    await post(replica, f"/tasks/{task_id}/pause")
    await eventually(lambda: not robot.moving.is_set())
    await post(replica, f"/tasks/{task_id}/cancel")
    await replica.until(task_id, "cancelled")


async def test_cancel_amid_a_generation_cancels_the_generation(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    world.videogen.gate.clear()
    task_id = await replica.submit("open the drawer")
    await replica.until_stage(task_id, 0, "imagining")
    await eventually(lambda: len(world.videogen.requests) == 1)
    await post(replica, f"/tasks/{task_id}/cancel")
    await replica.until(task_id, "cancelled")
    await eventually(lambda: world.videogen.cancelled == 1, what="the call to be cancelled")
    assert robot.told("start_rollout") == []


async def test_cancelling_a_waiting_task_takes_it_from_the_queue(
    replica: Replica, robot: FakeRobot
) -> None:
    first = await rolling(replica, robot)
    second = await replica.submit("open the drawer")
    assert (await post(replica, f"/tasks/{second}/cancel"))["status"] == "cancelled"
    robot.ticks_to_done = 0
    await replica.until(first, "succeeded")
    third = await replica.submit("open the drawer")
    await replica.until(third, "succeeded")
    assert second not in {c.reset_and_capture.task_id for c in robot.told("reset_and_capture")}


async def test_the_robot_is_free_after_a_cancelled_task(replica: Replica, robot: FakeRobot) -> None:
    task_id = await rolling(replica, robot)
    await post(replica, f"/tasks/{task_id}/cancel")
    await replica.until(task_id, "cancelled")
    robot.ticks_to_done = 0
    await replica.until(await replica.submit("open the drawer"), "succeeded")


@pytest.mark.parametrize("move", ["cancel", "pause", "resume"])
async def test_a_task_that_is_over_is_not_moved(
    replica: Replica, robot: FakeRobot, move: str
) -> None:
    task_id = await replica.submit("open the drawer")
    await replica.until(task_id, "succeeded")
    answer = await replica.http.post(f"/tasks/{task_id}/{move}")
    assert (answer.status_code, answer.json()["code"]) == (409, "INVALID_TRANSITION")
    assert "succeeded" in answer.json()["detail"]


async def test_stop_stops_the_robot_and_fails_its_task(replica: Replica, robot: FakeRobot) -> None:
    task_id = await rolling(replica, robot)
    answer = await replica.http.post("/robots/robot-1/stop", json={"reason": "smoke"})
    assert answer.json() == {"id": "robot-1", "stopped": True, "recorded": True}
    task = await replica.until(task_id, "failed")
    assert task["failure"]["code"] == "ROBOT_STOPPED"
    assert task["stages"][0]["ended_by"] == "stopped"
    assert robot.told("stop")[0].stop.reason == "smoke"
    assert (await replica.http.get("/robots/robot-1")).json()["stopped"] == "smoke"


async def test_a_stopped_robot_begins_nothing_until_it_is_released(
    replica: Replica, robot: FakeRobot
) -> None:
    first = await rolling(replica, robot)
    second = await replica.submit("open the drawer")
    await post(replica, "/robots/robot-1/stop")
    await replica.until(first, "failed")
    moved = len(robot.told("reset_and_capture"))
    robot.ticks_to_done = 0
    # a task of another robot passes through the whole system meanwhile
    async with FakeRobot(replica.gateway, "robot-2").attach():
        await replica.until(await replica.submit("open the door", robot_id="robot-2"), "succeeded")
    assert len(robot.told("reset_and_capture")) == moved
    assert (await replica.task(second))["status"] == "waiting_for_robot"

    await post(replica, "/robots/robot-1/resume")
    await replica.until(second, "succeeded")


async def test_a_stop_outlives_a_reconnect(replica: Replica) -> None:
    async with FakeRobot(replica.gateway).attach():
        await post(replica, "/robots/robot-1/stop")
    task_id = await replica.submit("open the drawer", robot_id="robot-1")
    robot = FakeRobot(replica.gateway)

    async def is_free() -> bool:
        return not (await replica.http.get("/robots/robot-1")).json()["attached"]

    await eventually(is_free)
    async with robot.attach():
        async with FakeRobot(replica.gateway, "robot-2").attach():
            other = await replica.submit("open the door", robot_id="robot-2")
            await replica.until(other, "succeeded")
        assert robot.told("reset_and_capture") == []
        await post(replica, "/robots/robot-1/resume")
        await replica.until(task_id, "succeeded")


async def test_stop_works_with_redis_down(world: World, replica: Replica, robot: FakeRobot) -> None:
    task_id = await rolling(replica, robot)
    world.redis.kill()
    answer = await replica.http.post("/robots/robot-1/stop")
    assert answer.status_code == 200
    assert answer.json()["recorded"] is False
    await eventually(lambda: len(robot.told("stop")) == 1, what="the robot to be stopped")
    world.redis.start()
    task = await replica.until(task_id, "failed")
    assert task["failure"]["code"] == "ROBOT_STOPPED"

    async def is_recorded() -> bool:
        return (await replica.http.get("/robots/robot-1")).json()["stopped"] is not None

    await eventually(is_recorded, what="the stop to be written")


async def test_a_stop_asked_at_another_replica_arrives(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    task_id = await rolling(replica, robot)
    async with world.replica() as other:
        await post(other, "/robots/robot-1/stop")
        await eventually(lambda: len(robot.told("stop")) == 1, what="the robot to be stopped")
        await other.until(task_id, "failed")


async def test_cancel_and_pause_asked_at_another_replica_arrive(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    task_id = await rolling(replica, robot)
    async with world.replica() as other:
        await post(other, f"/tasks/{task_id}/pause")
        await eventually(lambda: not robot.moving.is_set(), what="the robot to hold")
        await post(other, f"/tasks/{task_id}/cancel")
        await other.until(task_id, "cancelled")
