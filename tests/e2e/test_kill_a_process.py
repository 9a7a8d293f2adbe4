"""kill -9 of any process in the middle of a task: never stuck, and the robot holds meanwhile.

The services are real processes and are started again by the test, as compose would do it. The
robot is mocked and lives in the test, so that what it was told to do can be read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gen2act_demo.api import Task
from gen2act_robot.testing import until
from harness.bundle import write_bundle
from harness.robot import StagedRobot, attached
from harness.stack import Stack, running_stack

STAGES = ["open the drawer", "close the drawer"]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    environment = {
        "GEN2ACT_BUNDLE": str(write_bundle(tmp_path / "bundle")),
        "GEN2ACT_VIDEO_BACKENDS": "file",
    }
    async with running_stack(tmp_path, environment) as running:
        yield running


@pytest.fixture
async def robot(stack: Stack) -> AsyncIterator[StagedRobot]:
    robot = StagedRobot(actions_per_stage=20)
    async with attached(robot, "mock-1", orchestrator=stack.gateway, policy=stack.policy):
        yield robot


async def begin(stack: Stack, robot: StagedRobot) -> str:
    """Submits a task of two stages; returns its id when the robot is amid the first."""
    video = await stack.upload_video()
    task_id = await stack.submit(
        instruction="open and close the drawer", robot_id="mock-1", stages=STAGES, video=video
    )
    await until(lambda: robot.applied >= 3, what="the robot to move")
    return task_id


async def holding(robot: StagedRobot) -> None:
    """Returns when the robot has been told to keep still since its last motion."""
    await until(lambda: robot.holds_since_last_action() > 0, what="the robot to hold")


def assert_completed_or_explained(task: Task) -> None:
    if task.status == "succeeded":
        assert [stage.task for stage in task.stages] == STAGES
        assert all(stage.status == "done" for stage in task.stages)
    else:
        assert task.status == "failed"
        assert task.failure is not None and task.failure.code and task.failure.message


async def test_policy_killed_amid_a_rollout(stack: Stack, robot: StagedRobot) -> None:
    task_id = await begin(stack, robot)

    stack.kill("policy")
    await holding(robot)
    stack.start("policy")

    assert_completed_or_explained(await stack.until_over(task_id))


async def test_videogen_killed_amid_a_task(stack: Stack, robot: StagedRobot) -> None:
    task_id = await begin(stack, robot)

    stack.kill("videogen")
    await until(lambda: len(robot.recorded.resets) == 2, what="the second stage's reset")
    await holding(robot)
    moved = len(robot.recorded.actions)
    assert (await stack.task(task_id)).status == "running"
    assert len(robot.recorded.actions) == moved
    stack.start("videogen")

    task = await stack.until_over(task_id)
    assert task.status == "succeeded", task


async def test_orchestrator_killed_amid_a_rollout(stack: Stack, robot: StagedRobot) -> None:
    task_id = await begin(stack, robot)

    stack.kill("orchestrator")
    await holding(robot)
    stack.start("orchestrator")

    task = await stack.until_over(task_id)
    assert task.status == "succeeded", task
    assert task.stages[0].attempts == 2  # began again at its boundary


async def test_valkey_killed_amid_a_rollout(stack: Stack, robot: StagedRobot) -> None:
    task_id = await begin(stack, robot)

    stack.kill("redis")
    await holding(robot)
    stack.start("redis")

    assert_completed_or_explained(await stack.until_over(task_id))


async def test_nothing_accepted_is_lost_when_everything_is_killed(
    stack: Stack, robot: StagedRobot
) -> None:
    task_id = await begin(stack, robot)
    queued = await stack.submit(
        instruction="close the drawer",
        robot_id="mock-1",
        stages=STAGES[1:],
        video=await stack.upload_video(),
    )

    for name in ("orchestrator", "policy", "videogen", "redis"):
        stack.kill(name)
    await holding(robot)
    for name in ("redis", "videogen", "policy", "orchestrator"):
        stack.start(name)

    assert (await stack.until_over(task_id)).status in ("succeeded", "failed")
    assert (await stack.until_over(queued)).status in ("succeeded", "failed")
