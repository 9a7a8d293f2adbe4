"""What a robot is to this client: the `Robot` protocol and the values that cross it.

A driver is any class with these methods; it needs no base class. All calls except `stop` come from
one thread that lives as long as the driver, one at a time (simulators and many vendor libraries
must be used from a single thread). `stop` may come from any thread, at any time, also while
another call hangs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.frames import Frame
from gen2act_contracts.spec import ActionDimension


@dataclass(frozen=True)
class Workspace:
    """Axis-aligned box the end effector must stay in, in `RobotLimits.frame` [m]."""

    low_m: tuple[float, float, float]
    high_m: tuple[float, float, float]

    def contains(self, position_m: NDArray[np.floating]) -> bool:
        """Whether a point float[3] [m] lies in the box; a NaN never does."""
        return bool(np.all(position_m >= self.low_m) and np.all(position_m <= self.high_m))


@dataclass(frozen=True)
class RobotLimits:
    """What the driver accepts; compared with the policy's ActionSpec before anything moves."""

    dimensions: tuple[ActionDimension, ...]  # largest displacement of one control period
    frame: str  # frame of reference of displacements and of `workspace`
    min_control_period_s: float  # [s]
    max_speed_m_s: float = math.inf  # [m/s] norm over the dimensions in metres
    max_speed_rad_s: float = math.inf  # [rad/s] norm over the dimensions in radians
    workspace: Workspace | None = None  # None: not checked


@dataclass(frozen=True)
class RobotObservation:
    """What the robot sees and measures at one instant."""

    frame: Frame  # square RGB image
    ee_position_m: tuple[float, float, float] | None = None  # in `RobotLimits.frame` [m]
    gripper_opening: float | None = None  # 0 closed to 1 fully open


@dataclass(frozen=True)
class Action:
    """One control period's motion, already through the action gate."""

    displacement: NDArray[np.float32]  # float32[D], units of `RobotLimits.dimensions`
    gripper_closed: bool
    period_s: float  # [s] time to spread the displacement over


@dataclass(frozen=True)
class ResetRequest:
    """Where the robot is in its task when it is asked to go to its reset pose."""

    task_id: str
    task: str  # imperative of the coming stage
    new_scene: bool = True  # first stage: a simulated robot may rearrange the scene
    activity_tasks: tuple[str, ...] = field(default=())  # all stages of the task, in order


@dataclass(frozen=True)
class StageVerdict:
    """A simulator's judgement of one stage."""

    success: bool  # now
    success_once: bool  # at some tick


class Robot(Protocol):
    """A manipulator with one camera, moved by end-effector displacements."""

    name: str  # driver name, for people

    @property
    def limits(self) -> RobotLimits: ...

    def reset(self, request: ResetRequest) -> None:
        """Goes to the reset pose, arm out of the camera's view; returns when there.

        Releases an earlier `stop`. Must end early when `stop` is called meanwhile.
        """

    def observe(self) -> RobotObservation:
        """The newest camera image and measurements; at most a few tens of milliseconds."""

    def apply(self, action: Action) -> None:
        """Begins the motion, to be finished `action.period_s` later; returns within the period.

        Must not go on by itself afterwards: a displacement is executed once.
        """

    def hold(self) -> None:
        """Keeps still where it is, actively if the arm would sag. Called once a period."""

    def stop(self, reason: str) -> None:
        """Ends all motion now; thread-safe. Nothing moves before the next `reset`."""

    def close(self) -> None:
        """Lets go of the hardware, leaving the arm still."""


@runtime_checkable
class SimulatorStateSource(Protocol):
    """Optional: a simulated robot whose scene can be handed to the `demonstrator` backend."""

    def simulator_state(self) -> bytes: ...


@runtime_checkable
class Judge(Protocol):
    """Optional: a simulated robot that knows whether a stage succeeded."""

    def begin_stage(self, task: str) -> None:
        """Judges from here on by the success predicate of `task` (an imperative)."""

    def verdict(self) -> StageVerdict | None:
        """None if no predicate is known for the stage's task."""
