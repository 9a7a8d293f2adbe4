"""Finds tasks that a crash left behind, so that none is ever stuck."""

from __future__ import annotations

import asyncio

import structlog

from gen2act_contracts.errors import Gen2ActError, InvalidTransition, UnknownRobot
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.stage import Failure
from gen2act_orchestrator.domain.task import Change, Task, TaskStatus
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.fleet import Fleet
from gen2act_orchestrator.service.planning import PlanningDesk

_log = structlog.get_logger(__name__)


class Sweeper:
    """Looks at all live tasks every `every_s` [s]; each replica does, which is harmless.

    Args:
        lease_grace_s: [s] a lease may be missing before its robot counts as gone. After Redis was
            away, leases of living attachments come back with their next renewal.
    """

    def __init__(
        self, deps: Deps, desk: PlanningDesk, fleet: Fleet, *, every_s: float, lease_grace_s: float
    ) -> None:
        self._deps = deps
        self._desk = desk
        self._fleet = fleet
        self._every_s = every_s
        self._lease_grace_s = lease_grace_s
        self._missing_since: dict[str, float] = {}  # robot id -> loop time

    async def run(self) -> None:
        """Until cancelled. A store that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except Gen2ActError as error:
                _log.warning("sweep put off", code=error.code, error=error.message)
            except Exception:
                _log.exception("sweep failed by a defect")
            await asyncio.sleep(self._every_s)

    async def sweep(self) -> None:
        """One look at every live task."""
        tasks = await self._deps.tasks.live()
        for task in tasks:
            try:
                await self._look_at(task)
            except InvalidTransition:
                continue  # it moved on while we looked
        held = {task.robot_id for task in tasks if task.is_underway}
        self._missing_since = {r: t for r, t in self._missing_since.items() if r in held}

    async def _look_at(self, task: Task) -> None:
        now = self._deps.clock()
        if task.status in (TaskStatus.QUEUED, TaskStatus.PLANNING):
            self._desk.take(task.id)
        elif task.status is TaskStatus.WAITING_FOR_ROBOT:
            if task.deadline is not None and now > task.deadline:
                await self._deps.tasks.update(
                    task.id, lambda t: transitions.robot_missed(t, self._deps.clock())
                )
        elif task.is_underway and await self._robot_is_gone(task.robot_id or ""):
            _log.warning("task left behind", task_id=task.id, robot_id=task.robot_id)
            await self._deps.tasks.update(task.id, lambda t: self._interrupt(t, task))

    def _interrupt(self, task: Task, seen: Task) -> Change:
        if task.lease_id != seen.lease_id:
            raise InvalidTransition("a robot has taken the task meanwhile")
        cause = Failure("ROBOT_LOST", "the robot, or the orchestrator it was attached to, is gone")
        return transitions.interrupt(task, cause, self._deps.clock(), self._deps.settings.limits)

    async def _robot_is_gone(self, robot_id: str) -> bool:
        if self._fleet.has(robot_id) or await self._has_lease(robot_id):
            self._missing_since.pop(robot_id, None)
            return False
        now = asyncio.get_running_loop().time()
        since = self._missing_since.setdefault(robot_id, now)
        return now - since >= self._lease_grace_s

    async def _has_lease(self, robot_id: str) -> bool:
        try:
            return (await self._deps.robots.robot(robot_id)).attached
        except UnknownRobot:
            return False
