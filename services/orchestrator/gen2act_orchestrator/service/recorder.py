"""Writes progress of a stage (ticks, frames, fractions) without holding up the control loop."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from gen2act_contracts.errors import Gen2ActError
from gen2act_orchestrator.domain.events import Event
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.ports import ArtefactStore, TaskStore

_QUEUE = 256  # items; more than a minute of ticks
_FLUSH_S = 3.0  # [s] given to the rest at the end


class Recorder:
    """Best effort: what cannot be written in time is dropped and counted, never waited for.

    Transitions do not pass through here; they are written before they are acted on.
    """

    def __init__(
        self, tasks: TaskStore, artefacts: ArtefactStore, task_id: str, stage: int
    ) -> None:
        self._tasks = tasks
        self._artefacts = artefacts
        self._task_id = task_id
        self._stage = stage
        self._queue: asyncio.Queue[tuple[Event, bytes | None]] = asyncio.Queue(_QUEUE)
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0

    async def __aenter__(self) -> Recorder:
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._writer is not None
        try:
            if kind is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_FLUSH_S):
                        await self._queue.join()
        finally:
            await end(self._writer)

    def add(self, event: Event, jpeg: bytes | None = None) -> None:
        """Note an event, and a frame if there is one. Returns at once."""
        try:
            self._queue.put_nowait((event, jpeg))
        except asyncio.QueueFull:
            self.dropped += 1

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                frames = [jpeg for _, jpeg in batch if jpeg is not None]
                if frames:
                    await self._artefacts.add_frames(self._task_id, self._stage, frames)
                await self._tasks.note(self._task_id, [event for event, _ in batch])
            except Gen2ActError:
                self.dropped += len(batch)
            finally:
                for _ in batch:
                    self._queue.task_done()
