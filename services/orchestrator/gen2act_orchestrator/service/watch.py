"""Follows what users ask of a task while it runs: pause, resume, cancel."""

from __future__ import annotations

import asyncio

from gen2act_contracts.errors import Gen2ActError
from gen2act_orchestrator.domain.task import Task, TaskStatus
from gen2act_orchestrator.service.ports import TaskStore

_BLOCK_S = 1.0  # [s] one blocking read
_BACKOFF_S = 0.5  # [s] after the store failed


class TaskWatch:
    """Turns a task's event stream into flags. The request may come in at any replica."""

    def __init__(self, store: TaskStore, task_id: str) -> None:
        self._store = store
        self._task_id = task_id
        self.running = asyncio.Event()  # cleared while paused
        self.running.set()
        self.changed = asyncio.Event()  # set whenever `running` changed; cleared by the reader
        self.ended = asyncio.Event()  # cancelling, over, or taken away: stop working on it
        self.over = False  # `ended` because the task reached a terminal state

    @property
    def paused(self) -> bool:
        return not self.running.is_set()

    async def follow(self) -> None:
        """Read events until the task is no longer ours to run. Cancel to stop.

        While the store is away nothing can be asked through it either, so this only waits.
        """
        after: str | None = None
        while not self.ended.is_set():
            try:
                if after is None:
                    after = await self._store.last_event_id(self._task_id)
                    self._apply(await self._store.load(self._task_id))
                events = await self._store.read_events(self._task_id, after, wait_s=_BLOCK_S)
                if events:
                    after = events[-1].id
                    if any(stored.event.type.startswith("task.") for stored in events):
                        self._apply(await self._store.load(self._task_id))
            except Gen2ActError as error:
                if not error.retryable:
                    self.ended.set()
                    return
                await asyncio.sleep(_BACKOFF_S)

    def _apply(self, task: Task) -> None:
        if task.status is TaskStatus.PAUSED and task.paused_from is TaskStatus.RUNNING:
            self._set_running(False)
        elif task.status is TaskStatus.RUNNING:
            self._set_running(True)
        else:
            self.over = task.is_over
            self.ended.set()

    def _set_running(self, running: bool) -> None:
        if running is self.running.is_set():
            return
        if running:
            self.running.set()
        else:
            self.running.clear()
        self.changed.set()
