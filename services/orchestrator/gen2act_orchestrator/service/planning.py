"""Plans accepted tasks in the background."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import structlog

from gen2act_contracts.errors import Gen2ActError, InvalidInput, InvalidTransition, Unavailable
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.stage import Failure
from gen2act_orchestrator.domain.task import Task, TaskStatus
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.ports import Clock, Planner, TaskStore

_log = structlog.get_logger(__name__)

_AT_ONCE = 4  # plans being made


def check_videos(videos: int, stages: int) -> None:
    """Raises InvalidInput unless there is no video, one for all stages, or one per stage."""
    if videos not in (0, 1, stages):
        raise InvalidInput(
            f"{videos} uploaded videos for {stages} stage(s); give one for all or one per stage"
        )


class PlanningDesk:
    """Turns queued tasks into planned ones. Planning twice is harmless; only one plan is taken."""

    def __init__(
        self, tasks: TaskStore, planner: Planner, clock: Clock, on_planned: Callable[[], None]
    ) -> None:
        self._tasks = tasks
        self._planner = planner
        self._clock = clock
        self._on_planned = on_planned
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    def take(self, task_id: str) -> None:
        """Plan this task soon, unless it is in hand already. Returns at once."""
        if task_id in self._in_hand:
            return
        planning = asyncio.create_task(self._plan(task_id), name=f"plan {task_id}")
        self._in_hand[task_id] = planning
        planning.add_done_callback(lambda _: self._in_hand.pop(task_id, None))

    async def drain(self) -> None:
        """Drop what is in hand; the next process takes it up."""
        await end(*self._in_hand.values())

    async def _plan(self, task_id: str) -> None:
        structlog.contextvars.bind_contextvars(task_id=task_id)
        async with self._room:
            try:
                task = await self._tasks.update(
                    task_id, lambda t: transitions.begin_planning(t, self._clock())
                )
                if task.status is not TaskStatus.PLANNING:
                    return
                stages = await self._stages(task)
                await self._tasks.update(
                    task_id, lambda t: transitions.planned(t, stages, self._clock())
                )
                self._on_planned()
            except InvalidTransition as error:
                _log.info("task needs no plan any more", reason=error.message)
            except Unavailable as error:
                # still queued or planning in the store: the sweeper brings it here again
                _log.warning("planning put off", error=error.message)
            except Gen2ActError as error:
                await self._fail(task_id, Failure(error.code, error.message))
            except Exception:
                incident = uuid.uuid4().hex[:12]
                _log.exception("planning failed by a defect", incident=incident)
                await self._fail(task_id, Failure("INTERNAL", f"internal error {incident}"))

    async def _stages(self, task: Task) -> tuple[str, ...]:
        stages = task.given_stages or await self._planner.plan(task.instruction)
        check_videos(len(task.videos), len(stages))
        return stages

    async def _fail(self, task_id: str, failure: Failure) -> None:
        try:
            await self._tasks.update(task_id, lambda t: transitions.fail(t, failure, self._clock()))
        except Gen2ActError as error:
            _log.warning("the failure could not be written", error=error.message)
