"""What the service layer needs from outside. Every method raises Gen2ActError only.

Methods that reach another process have a deadline of their own and raise Unavailable or
DeadlineExceeded (retryable) when the peer is away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from gen2act_contracts.spec import ActionSpec
from gen2act_orchestrator.domain.events import Event, StoredEvent
from gen2act_orchestrator.domain.stage import Video
from gen2act_orchestrator.domain.task import Change, Task
from gen2act_orchestrator.service.values import (
    Driver,
    Ended,
    Generation,
    Idempotency,
    RobotRecord,
    Scene,
    Signals,
    TaskPage,
    Tick,
)

Clock: TypeAlias = Callable[[], float]  # [s, Unix]
Transition: TypeAlias = Callable[[Task], Change]
OnProgress: TypeAlias = Callable[[float, str], None]  # fraction 0 to 1, phase


class TaskStore(Protocol):
    """Tasks, their events and the queues of the robots: the state of record."""

    async def earlier(self, idempotency: Idempotency) -> Task | None:
        """The task made under this key before.

        Raises:
            IdempotencyMismatch: the key was used for something else.
        """
        ...

    async def create(self, draft: Task, idempotency: Idempotency | None) -> tuple[Task, bool]:
        """Write a new task, its first event and its place in the queue, all or nothing.

        Returns:
            The task with its sequence number, and True; or the task made earlier under the same
            idempotency key, and False.

        Raises:
            IdempotencyMismatch: the key was used for something else.
            Overloaded: too many tasks that are not over.
        """
        ...

    async def load(self, task_id: str) -> Task:
        """Raises UnknownTask."""
        ...

    async def update(
        self, task_id: str, transition: Transition, *, write_id: str | None = None
    ) -> Task:
        """Apply a transition and write task and events together, or nothing.

        The transition is applied to the newest state, again if another writer came in between.
        Repeating a call with the same `write_id` after an unclear failure applies it once.
        """
        ...

    async def note(self, task_id: str, events: Sequence[Event]) -> None:
        """Append progress events that change no state."""
        ...

    async def read_events(
        self, task_id: str, after: str, *, wait_s: float, limit: int = 100
    ) -> list[StoredEvent]:
        """Events after the id `after` ("0" for all), waiting up to `wait_s` for the first."""
        ...

    async def last_event_id(self, task_id: str) -> str: ...

    async def page(self, cursor: str | None, limit: int) -> TaskPage: ...

    async def queue(self, robot_id: str) -> list[Task]:
        """Tasks a robot may run, oldest first: its own and those of no robot in particular."""
        ...

    async def live(self) -> list[Task]:
        """All tasks that are not over."""
        ...

    async def ping(self) -> None: ...


class RobotStore(Protocol):
    """Leases and what is known of robots."""

    async def acquire(self, driver: Driver, lease_id: str, now: float) -> None:
        """Take the robot's lease and remember the robot.

        Raises:
            RobotIdInUse: another instance holds it.
        """
        ...

    async def renew(self, driver: Driver, lease_id: str) -> bool:
        """False: the lease belongs to someone else now."""
        ...

    async def release(self, driver: Driver, lease_id: str) -> None: ...

    async def robots(self) -> list[RobotRecord]: ...

    async def robot(self, robot_id: str) -> RobotRecord:
        """Raises UnknownRobot, naming the known ones."""
        ...

    async def set_stopped(self, robot_id: str, reason: str | None) -> None: ...

    async def stop_reason(self, robot_id: str) -> str | None: ...


class ArtefactStore(Protocol):
    """Pictures of stages and videos, with a time to live."""

    async def put_first(self, task_id: str, stage: int, jpeg: bytes) -> None:
        """The scene frame; drops what an earlier attempt of the stage has left."""
        ...

    async def put_last(self, task_id: str, stage: int, jpeg: bytes) -> None: ...

    async def add_frames(self, task_id: str, stage: int, jpegs: Sequence[bytes]) -> None: ...

    async def first(self, task_id: str, stage: int) -> bytes:
        """Raises ArtefactMissing."""
        ...

    async def last(self, task_id: str, stage: int) -> bytes:
        """Raises ArtefactMissing."""
        ...

    async def frames(self, task_id: str, stage: int) -> list[bytes]:
        """Raises ArtefactMissing."""
        ...

    async def put_video(self, mp4: bytes, meta: dict[str, object]) -> str:
        """Store an upload; returns its content id."""
        ...

    async def video(self, video_id: str) -> bytes:
        """Raises VideoExpired."""
        ...

    async def has_video(self, video_id: str) -> bool: ...


class VideoGenerator(Protocol):
    async def generate(
        self, request: Generation, on_progress: OnProgress, *, deadline_s: float
    ) -> Video: ...


class Likeness(Protocol):
    async def changed(self, before: Scene, after: Scene) -> float:
        """Share of the picture that is clearly different, 0 to 1. Raises InvalidImage."""
        ...


class Policy(Protocol):
    async def spec(self, *, deadline_s: float) -> ActionSpec:
        """What the served model's actions mean.

        Raises:
            ContractMismatch: the policy speaks another contract version.
        """
        ...

    async def prepare_goal(self, video_id: str, *, deadline_s: float) -> str: ...


class Planner(Protocol):
    def refuses(self, instruction: str) -> None:
        """Raise at once what `plan` would raise for sure, if that is known without any wait."""
        ...

    async def plan(self, instruction: str) -> tuple[str, ...]:
        """Raises UnknownActivity, PlannerUnavailable or InvalidInstruction."""
        ...


class RobotLink(Protocol):
    """One attachment of one robot. After `signals.lost`, every call raises RobotLost."""

    driver: Driver
    lease_id: str
    signals: Signals

    async def reset_and_capture(
        self,
        *,
        task_id: str,
        attempt_id: str,
        task: str,
        new_scene: bool,
        activity_tasks: Sequence[str],
        deadline_s: float,
    ) -> Scene: ...

    async def start_rollout(
        self,
        *,
        task_id: str,
        attempt_id: str,
        task: str,
        goal_id: str,
        spec: ActionSpec,
        max_ticks: int,
        deadline_s: float,
    ) -> None: ...

    async def end_rollout(self, attempt_id: str, reason: str, *, deadline_s: float) -> None: ...

    async def hold(self, on: bool, *, deadline_s: float) -> None: ...

    async def stop(self, reason: str) -> None:
        """Tell the robot at once; does not wait for its answer."""
        ...

    async def next_report(self, attempt_id: str, *, deadline_s: float) -> Tick | Ended:
        """The next report of this attempt; those of others are dropped."""
        ...
