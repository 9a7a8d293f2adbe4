"""What happens to a task, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gen2act_contracts.errors import Gen2ActError, InvalidInput, Overloaded
from gen2act_orchestrator.domain.events import StoredEvent
from gen2act_orchestrator.domain.task import TERMINAL
from gen2act_orchestrator.entrypoints.http.deps import Deps, TaskId

router = APIRouter(tags=["tasks"])

_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
_BLOCK_S = 1.0  # [s] one blocking read; also how soon a drain is noticed
_LAST = frozenset(f"task.{status.value}" for status in TERMINAL)


async def _resume_after(
    task_id: TaskId,
    deps: Deps,
    last_event_id: Annotated[str | None, Header(description="resume after this event")] = None,
) -> AsyncIterator[str]:
    """Checked before the answer begins: a stream that has begun cannot become an error any more.

    Holds one of the bounded places for streams until the answer is over.
    """
    if last_event_id and not _EVENT_ID.fullmatch(last_event_id):
        raise InvalidInput(
            f"Last-Event-ID {last_event_id[:64]!r} is not the id of an event of this API"
        )
    await deps.tasks.load(task_id)
    if deps.event_streams.locked():
        raise Overloaded("too many event streams are open; close some or try again later")
    async with deps.event_streams:
        yield last_event_id or "0"


@router.get(
    "/tasks/{task_id}/events",
    response_class=EventSourceResponse,
    summary="Everything that happens to a task",
)
async def events(
    task_id: TaskId, deps: Deps, after: Annotated[str, Depends(_resume_after)]
) -> AsyncIterator[ServerSentEvent]:
    """From the first event (or after Last-Event-ID) to the end of the task.

    The stream also ends when this process drains or the store is away: connect again with the
    last id, as browsers' EventSource does by itself.
    """
    while not deps.is_draining():
        try:
            found = await deps.tasks.read_events(task_id, after, wait_s=_BLOCK_S)
            over = not found and (await deps.tasks.load(task_id)).is_over
        except Gen2ActError:
            return
        for stored in found:
            yield _sse(stored)
            if stored.event.type in _LAST:
                return
            after = stored.id
        if over:
            return
        await asyncio.sleep(0)


def _sse(stored: StoredEvent) -> ServerSentEvent:
    event = stored.event
    body = {"at": event.at, "stage": event.stage, "data": event.data}
    return ServerSentEvent(id=stored.id, event=event.type, raw_data=json.dumps(body))
