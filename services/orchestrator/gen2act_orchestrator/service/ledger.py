"""Writes the transitions of the task that a robot runs, before they are acted on."""

from __future__ import annotations

import uuid

from gen2act_contracts.errors import InvalidTransition, Unavailable, UnknownTask
from gen2act_orchestrator.domain.stage import Stage
from gen2act_orchestrator.domain.task import Task, TaskStatus
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.patience import patiently
from gen2act_orchestrator.service.ports import Transition


class LedgerLost(Exception):
    """The store stayed away: nothing may be done that could not be written first."""


class TaskTaken(Exception):
    """The task is no longer ours to run."""


class Ledger:
    """The task as last written, and the way to write its next state.

    Raises (from `write`):
        TaskTaken: the task was cancelled, taken over or removed meanwhile.
        LedgerLost: the store was away for longer than its patience.
    """

    def __init__(self, deps: Deps, task: Task, lease_id: str) -> None:
        self._deps = deps
        self.task = task
        self.lease_id = lease_id

    @property
    def stage(self) -> Stage:
        stage = self.task.current
        assert stage is not None, "the task has no stage left"
        return stage

    async def write(self, transition: Transition) -> Task:
        # One id over all tries: a write that got through although its answer was lost counts once.
        write_id = uuid.uuid4().hex
        try:
            self.task = await patiently(
                lambda: self._deps.tasks.update(self.task.id, transition, write_id=write_id),
                self._deps.settings.store_patience,
            )
        except Unavailable as error:
            raise LedgerLost(error.message) from error
        except (InvalidTransition, UnknownTask) as error:
            raise TaskTaken(error.message) from error
        if self.task.is_over:
            failure = self.task.failure
            self._deps.meter.task_over(
                self.task.status.value, failure.code if failure is not None else ""
            )
        return self.task

    @property
    def is_running(self) -> bool:
        return self.task.status in (TaskStatus.RUNNING, TaskStatus.PAUSED)
