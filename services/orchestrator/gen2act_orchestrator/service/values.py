"""Values that pass between the service layer and its ports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gen2act_contracts.pb import common
from gen2act_contracts.spec import ActionDimension
from gen2act_orchestrator.domain.stage import Verdict
from gen2act_orchestrator.domain.task import Task


@dataclass(frozen=True)
class Driver:
    """What a robot said of itself when it attached."""

    robot_id: str
    instance_id: str  # new per process start of the robot client
    name: str  # "sim", "mock", ...
    dimensions: tuple[ActionDimension, ...]
    frame: str
    min_control_period_s: float  # [s]


@dataclass(frozen=True)
class Scene:
    """The scene as a robot sees it; without the arm when it was captured at the reset pose."""

    frame: common.SceneFrame  # handed to the video service unopened
    jpeg: bytes  # the same picture, for people


@dataclass(frozen=True)
class Tick:
    """One control period of a rollout, as reported by the robot."""

    attempt_id: str
    number: int
    terminate_probability: float  # 0 to 1
    loop_ms: float  # [ms] capture to action applied
    held: bool
    seen: Scene | None = None  # None: the robot sent no picture that can be read


@dataclass(frozen=True)
class Ended:
    """The end of a rollout, as reported by the robot."""

    attempt_id: str
    reason: str  # "END_COMMAND", "MAX_TICKS", "STOPPED", "POLICY_LOST", "SAFETY"
    detail: str
    ticks: int
    last_jpeg: bytes | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Generation:
    """What the video service is asked for."""

    task: str  # imperative; the service forms the prompt
    scene: Scene
    seed: int
    backend: str
    source_video_id: str
    request_id: str


@dataclass(frozen=True)
class RobotRecord:
    """A robot that has attached at some time."""

    driver: Driver
    last_attached_at: float  # [s, Unix]
    attached: bool
    stopped: str | None  # reason, if a person stopped it and has not let it move again


@dataclass(frozen=True)
class TaskPage:
    """Tasks, newest first; `cursor` continues after the last one, None at the end."""

    tasks: tuple[Task, ...]
    cursor: str | None


@dataclass(frozen=True)
class Idempotency:
    """A client's key and the fingerprint of what it asked for under it."""

    key: str
    fingerprint: str


@dataclass
class Signals:
    """What may interrupt a running task from the robot's side."""

    lost: asyncio.Event = field(default_factory=asyncio.Event)  # never cleared
    stopped: asyncio.Event = field(default_factory=asyncio.Event)  # until a person lets it move
    unrecorded_stop: str | None = None  # reason of a stop that the store does not know yet
