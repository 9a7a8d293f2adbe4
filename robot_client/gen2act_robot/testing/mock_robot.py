"""A robot without a robot, for the tests of this client and for users' own."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gen2act_contracts.frames import Frame
from gen2act_contracts.spec import ActionDimension
from gen2act_robot.robot import (
    Action,
    ResetRequest,
    RobotLimits,
    RobotObservation,
    StageVerdict,
    Workspace,
)

MOCK_LIMITS = RobotLimits(
    dimensions=tuple(ActionDimension(axis, "m", -0.05, 0.05) for axis in ("dx", "dy", "dz")),
    frame="world",
    min_control_period_s=0.001,
    workspace=Workspace(low_m=(-1.0, -1.0, -1.0), high_m=(1.0, 1.0, 1.0)),
    max_speed_m_s=0.30,
)


@dataclass
class Faults:
    """What goes wrong, to be set at any time by a test.

    `on_call` is called with the method's name at the begin of every call, in the driver's thread:
    raise there, wait there, or count.
    """

    on_call: Callable[[str], None] = lambda name: None
    ee_position_m: tuple[float, float, float] | None = None  # measured instead of the true one
    blind: bool = False  # measures no proprioception


@dataclass
class Recorded:
    """Everything that was asked of the robot, in order."""

    calls: list[str] = field(default_factory=list)  # method names
    actions: list[Action] = field(default_factory=list)
    resets: list[ResetRequest] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)  # reasons


class MockRobot:
    """Integrates the displacements it is given, and shows them as a moving dot.

    Args:
        frames: scripted images, one per observation, the last one repeating; default: the dot.
        limits: what it claims to accept.
        image_size: [px] of the drawn images.
        seed: where the dot starts.

    Example::

        robot = MockRobot()
        ...
        assert len(robot.recorded.actions) == 3
    """

    name = "mock"

    def __init__(
        self,
        frames: Sequence[Frame] | None = None,
        limits: RobotLimits = MOCK_LIMITS,
        image_size: int = 224,
        seed: int = 0,
    ) -> None:
        self._frames = list(frames or ())
        self.limits = limits
        self._image_size = image_size
        self._start_m = np.random.default_rng(seed).uniform(-0.1, 0.1, 3)
        self.position_m = self._start_m.copy()  # float64[3] [m]
        self.gripper_closed = False
        self.faults = Faults()
        self.recorded = Recorded()
        self._observations = 0
        self._lock = threading.Lock()  # `stop` comes from another thread

    def reset(self, request: ResetRequest) -> None:
        self._note("reset")
        self.recorded.resets.append(request)
        self.position_m = self._start_m.copy()
        self.gripper_closed = False

    def observe(self) -> RobotObservation:
        self._note("observe")
        index, self._observations = self._observations, self._observations + 1
        frame = self._frames[min(index, len(self._frames) - 1)] if self._frames else self._draw()
        if self.faults.blind:
            return RobotObservation(frame)
        x, y, z = (float(value) for value in self.position_m)
        return RobotObservation(
            frame,
            self.faults.ee_position_m or (x, y, z),
            0.0 if self.gripper_closed else 1.0,
        )

    def apply(self, action: Action) -> None:
        self._note("apply")
        self.recorded.actions.append(action)
        step = [0.0, 0.0, 0.0]
        for dimension, value in zip(self.limits.dimensions, action.displacement, strict=True):
            if dimension.name in ("dx", "dy", "dz"):
                step["xyz".index(dimension.name[1])] = float(value)
        self.position_m = self.position_m + step
        self.gripper_closed = action.gripper_closed

    def hold(self) -> None:
        self._note("hold")

    def stop(self, reason: str) -> None:
        with self._lock:
            self.recorded.calls.append("stop")
            self.recorded.stops.append(reason)

    def close(self) -> None:
        self._note("close")

    def _note(self, name: str) -> None:
        with self._lock:
            self.recorded.calls.append(name)
        self.faults.on_call(name)

    def _draw(self) -> Frame:
        side = self._image_size
        pixels = np.full((side, side, 3), 200, dtype=np.uint8)
        pixels[side // 2 :] = (150, 120, 90)  # a table, so that pictures have some structure
        x, y, _ = self.position_m
        column, row = ((math.tanh(value) + 1.0) / 2.0 * (side - 17) for value in (x, -y))
        colour = (40, 40, 200) if self.gripper_closed else (200, 40, 40)
        pixels[int(row) : int(row) + 16, int(column) : int(column) + 16] = colour
        return Frame(pixels)


class JudgedMockRobot(MockRobot):
    """A mock robot that also plays a simulator: it hands out a state and judges stages."""

    def __init__(self, verdict: StageVerdict | None = None, state: bytes = b"mock-state") -> None:
        super().__init__()
        self.next_verdict = verdict or StageVerdict(success=True, success_once=True)
        self.state = state
        self.stages: list[str] = []

    def simulator_state(self) -> bytes:
        return self.state

    def begin_stage(self, task: str) -> None:
        self._note("begin_stage")
        self.stages.append(task)

    def verdict(self) -> StageVerdict | None:
        return self.next_verdict
