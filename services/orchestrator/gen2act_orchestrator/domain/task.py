"""A task: what was asked, its stages, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gen2act_orchestrator.domain.events import Detail, Event
from gen2act_orchestrator.domain.stage import ENDED, Failure, Stage


class TaskStatus(StrEnum):
    QUEUED = "queued"  # accepted and written
    PLANNING = "planning"
    WAITING_FOR_ROBOT = "waiting_for_robot"  # in a robot's queue, or its robot was lost
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"  # the robot is being brought to rest
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED})


@dataclass(frozen=True)
class Limits:
    """Bounds that decide transitions."""

    max_restarts: int = 3  # restarts of one stage from its boundary
    robot_wait_s: float = 60.0  # [s] an interrupted task waits for its robot
    budget_fails_task: bool = True  # False: it fails after its last stage


@dataclass(frozen=True)
class Task:
    """A task as of now. Changed only by the functions in `transitions`."""

    id: str
    sequence: int  # order of acceptance, over all tasks
    instruction: str
    seed: int
    max_ticks: int  # per stage
    created_at: float  # [s, Unix]
    updated_at: float  # [s, Unix]
    robot_id: str | None = None  # None: the first robot that attaches
    given_stages: tuple[str, ...] = ()  # by the user; empty: the planner decides
    videos: tuple[str, ...] = ()  # uploaded videos: none, one for all stages, or one each
    backend: str = ""  # of the video service; empty: its configured order
    status: TaskStatus = TaskStatus.QUEUED
    paused_from: TaskStatus | None = None
    stages: tuple[Stage, ...] = ()
    lease_id: str = ""  # of the attachment that runs the task; "" when none does
    deadline: float | None = None  # [s, Unix] the robot must be back by then
    failure: Failure | None = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_underway(self) -> bool:
        """A robot is, or was last known to be, executing it."""
        return self.lease_id != "" and not self.is_over

    @property
    def current(self) -> Stage | None:
        """The first stage that has not ended, or None."""
        return next((stage for stage in self.stages if stage.status not in ENDED), None)


@dataclass(frozen=True)
class Change:
    """A transition: the task after it, and the events that tell of it."""

    task: Task
    events: tuple[Event, ...] = ()


def task_event(task: Task, now: float) -> Event:
    """The event that tells of the task's present status."""
    data: dict[str, Detail] = {"status": task.status.value}
    if task.robot_id is not None:
        data["robot_id"] = task.robot_id
    if task.status is TaskStatus.WAITING_FOR_ROBOT:
        data["stages"] = [stage.task for stage in task.stages]
        if task.deadline is not None:
            data["robot_wait_until"] = task.deadline
    if task.failure is not None:
        data["code"] = task.failure.code
        data["message"] = task.failure.message
    return Event(f"task.{task.status.value}", now, None, data)


def stage_event(stage: Stage, now: float) -> Event:
    """The event that tells of the stage's present status."""
    data: dict[str, Detail] = {
        "status": stage.status.value,
        "task": stage.task,
        "attempt": stage.attempts,
    }
    if stage.video is not None:
        data["video_id"] = stage.video.id
        data["prompt"] = stage.video.prompt
        data["video_seconds"] = stage.video.seconds
    if stage.ended_by is not None:
        data["ended_by"] = stage.ended_by.value
        data["ticks"] = stage.ticks
    if stage.verdict is not None:
        data["success"] = stage.verdict.success
        data["success_once"] = stage.verdict.success_once
    if stage.failure is not None and stage.status in ENDED:
        data["code"] = stage.failure.code
        data["message"] = stage.failure.message
    return Event(f"stage.{stage.status.value}", now, stage.index, data)
