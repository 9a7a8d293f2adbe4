"""What users do with tasks: submit, look, pause, resume, cancel."""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from dataclasses import asdict, dataclass

from gen2act_contracts.errors import ArtefactMissing, InvalidInput, VideoExpired
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.instruction import (
    MAX_STAGES,
    clean_instruction,
    clean_stage,
)
from gen2act_orchestrator.domain.stage import Stage
from gen2act_orchestrator.domain.task import Limits, Task
from gen2act_orchestrator.service.fleet import Fleet
from gen2act_orchestrator.service.planning import PlanningDesk, check_videos
from gen2act_orchestrator.service.ports import (
    ArtefactStore,
    Clock,
    Planner,
    RobotStore,
    TaskStore,
)
from gen2act_orchestrator.service.values import Idempotency

MAX_KEY_CHARS = 200


@dataclass(frozen=True)
class NewTask:
    """What a user asks for."""

    instruction: str
    robot_id: str | None = None
    stages: tuple[str, ...] = ()
    max_ticks: int | None = None
    videos: tuple[str, ...] = ()
    seed: int | None = None
    backend: str = ""


class TaskService:
    """The use cases of the HTTP edge."""

    def __init__(
        self,
        tasks: TaskStore,
        robots: RobotStore,
        artefacts: ArtefactStore,
        planner: Planner,
        desk: PlanningDesk,
        fleet: Fleet,
        clock: Clock,
        limits: Limits,
        default_max_ticks: int,
    ) -> None:
        self._tasks = tasks
        self._robots = robots
        self._artefacts = artefacts
        self._planner = planner
        self._desk = desk
        self._fleet = fleet
        self._clock = clock
        self._limits = limits
        self._default_max_ticks = default_max_ticks

    async def submit(self, new: NewTask, key: str | None) -> tuple[Task, bool]:
        """Accept a task. When this returns, it is written.

        Returns:
            The task, and whether it is new; False for a repetition under the same key.

        Raises:
            InvalidInstruction, InvalidInput: something in `new` can never work.
            UnknownActivity: no language model is configured and the instruction needs one.
            UnknownRobot, VideoExpired: what it names is not there.
            IdempotencyMismatch: the key was used for another task.
            Overloaded, StoreUnavailable: not accepted; try again.
        """
        idempotency = _idempotency(new, key)
        if idempotency is not None:
            earlier = await self._tasks.earlier(idempotency)
            if earlier is not None:
                return earlier, False
        instruction = clean_instruction(new.instruction)
        if len(new.stages) > MAX_STAGES:
            raise InvalidInput(f"{len(new.stages)} stages; at most {MAX_STAGES} are allowed")
        stages = tuple(clean_stage(stage) for stage in new.stages)
        if stages:
            check_videos(len(new.videos), len(stages))
        else:
            self._planner.refuses(instruction)
        await self._check_videos_exist(new)
        now = self._clock()
        draft = Task(
            id=uuid.uuid4().hex,
            sequence=0,  # the store's to give
            instruction=instruction,
            seed=secrets.randbelow(2**31) if new.seed is None else new.seed,
            max_ticks=new.max_ticks or self._default_max_ticks,
            created_at=now,
            updated_at=now,
            robot_id=await self._robot_for(new.robot_id),
            given_stages=stages,
            videos=new.videos,
            backend=new.backend or ("file" if new.videos else ""),
        )
        task, created = await self._tasks.create(draft, idempotency)
        if created:
            self._desk.take(task.id)
        return task, created

    async def _check_videos_exist(self, new: NewTask) -> None:
        if new.backend == "file" and not new.videos:
            raise InvalidInput(
                'backend "file" needs `video`: upload one with POST /videos and give its video_id'
            )
        for video_id in new.videos:
            if not await self._artefacts.has_video(video_id):
                raise VideoExpired(
                    f"video {video_id[:64]!r} is unknown or has expired; upload it with POST "
                    "/videos",
                    video_id=video_id[:64],
                )

    async def _robot_for(self, robot_id: str | None) -> str | None:
        if robot_id is not None:
            return (await self._robots.robot(robot_id)).driver.robot_id
        attached = [r.driver.robot_id for r in await self._robots.robots() if r.attached]
        if len(attached) > 1:
            raise InvalidInput(
                f"{len(attached)} robots are attached; say which by robot_id: "
                f"{', '.join(attached[:20])}"
            )
        return attached[0] if attached else None

    async def pause(self, task_id: str) -> Task:
        """Raises UnknownTask or InvalidTransition."""
        return await self._tasks.update(task_id, lambda t: transitions.pause(t, self._clock()))

    async def resume(self, task_id: str) -> Task:
        """Raises UnknownTask or InvalidTransition."""
        task = await self._tasks.update(
            task_id, lambda t: transitions.resume(t, self._clock(), self._limits)
        )
        if not task.stages:
            self._desk.take(task.id)
        self._fleet.wake()
        return task

    async def cancel(self, task_id: str) -> Task:
        """Raises UnknownTask or InvalidTransition."""
        return await self._tasks.update(
            task_id, lambda t: transitions.request_cancel(t, self._clock())
        )

    async def stage(self, task_id: str, number: int) -> Stage:
        """Raises UnknownTask or ArtefactMissing."""
        task = await self._tasks.load(task_id)
        if not 0 <= number < len(task.stages):
            raise ArtefactMissing(
                f"task {task_id} has {len(task.stages)} stages, numbered from 0; there is no "
                f"stage {number}"
            )
        return task.stages[number]


def _idempotency(new: NewTask, key: str | None) -> Idempotency | None:
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise InvalidInput(f"Idempotency-Key must be 1 to {MAX_KEY_CHARS} printable characters")
    asked = json.dumps(asdict(new), sort_keys=True)
    return Idempotency(key, hashlib.sha256(asked.encode()).hexdigest())
