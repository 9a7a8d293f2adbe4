"""A mocked robot whose stages last as long as the test says, served by the real client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from gen2act_contracts.frames import Frame
from gen2act_robot.client import ClientConfig, RobotClient
from gen2act_robot.commands import LoopConfig
from gen2act_robot.robot import Action, ResetRequest, Robot, RobotObservation
from gen2act_robot.testing import MockRobot, until
from harness.bundle import SIZE


class StagedRobot(MockRobot):
    """Shows a dark table until `actions_per_stage` actions were applied, then a bright one.

    The bundle of `harness.bundle` says "terminate" when it sees the bright one.
    """

    def __init__(self, actions_per_stage: int = 5) -> None:
        super().__init__(image_size=SIZE)
        self.actions_per_stage = actions_per_stage
        self.applied = 0  # since the last reset

    def reset(self, request: ResetRequest) -> None:
        super().reset(request)
        self.applied = 0

    def apply(self, action: Action) -> None:
        super().apply(action)
        self.applied += 1

    def observe(self) -> RobotObservation:
        seen = super().observe()
        level = 60 if self.applied < self.actions_per_stage else 250
        pixels = np.full((SIZE, SIZE, 3), level, np.uint8)
        pixels[SIZE // 2 :, :8] //= 2  # some structure
        return RobotObservation(Frame(pixels), seen.ee_position_m, seen.gripper_opening)

    def holds_since_last_action(self) -> int:
        """Calls of `hold` (or a stop) after the last motion: 0 while it moves."""
        calls = list(self.recorded.calls)
        last = max((i for i, name in enumerate(calls) if name == "apply"), default=-1)
        return sum(name in ("hold", "stop") for name in calls[last + 1 :])


@asynccontextmanager
async def attached(
    robot: Robot, robot_id: str, *, orchestrator: str, policy: str
) -> AsyncIterator[RobotClient]:
    """The real robot client around `robot`, attached, in this event loop, until the block ends."""
    client = RobotClient(robot, ClientConfig(robot_id, orchestrator, LoopConfig(policy)))
    stop = asyncio.Event()
    running = asyncio.create_task(client.run(stop))
    try:
        await until(lambda: client.session.attachments == 1 or running.done(), what="attaching")
        yield client
    finally:
        stop.set()
        await running
