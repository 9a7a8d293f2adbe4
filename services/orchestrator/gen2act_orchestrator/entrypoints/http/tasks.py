"""Tasks: submit, look, pause, resume, cancel; and uploads for them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from gen2act_contracts.errors import InvalidVideo
from gen2act_orchestrator.adapters.recording import MAX_UPLOAD_BYTES, check_upload
from gen2act_orchestrator.entrypoints.http.deps import Deps, TaskId
from gen2act_orchestrator.entrypoints.http.schemas import (
    TaskPageView,
    TaskRequest,
    TaskView,
    UploadView,
)

router = APIRouter(tags=["tasks"])

_VIDEO_TYPES = ("video/mp4", "application/octet-stream")


@router.post("/tasks", status_code=202, response_model=TaskView, summary="Say what is to be done")
async def submit(
    request: TaskRequest,
    response: Response,
    deps: Deps,
    idempotency_key: Annotated[
        str | None, Header(description="repeating a request under its key does nothing new")
    ] = None,
) -> TaskView:
    """Accepts a task. It is written before the answer is sent: from then on it is not lost."""
    task, created = await deps.service.submit(request.to_new_task(), idempotency_key)
    response.headers["Location"] = f"/tasks/{task.id}"
    if not created:
        response.headers["Idempotency-Replayed"] = "true"
    return TaskView.model_validate(task)


@router.get("/tasks", response_model=TaskPageView, summary="All tasks, newest first")
async def page(
    deps: Deps,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=40, description="of the page before")] = None,
) -> TaskPageView:
    found = await deps.tasks.page(cursor, limit)
    return TaskPageView(
        tasks=[TaskView.model_validate(task) for task in found.tasks], cursor=found.cursor
    )


@router.get("/tasks/{task_id}", response_model=TaskView, summary="One task as it stands")
async def show(task_id: TaskId, deps: Deps) -> TaskView:
    return TaskView.model_validate(await deps.tasks.load(task_id))


@router.post("/tasks/{task_id}/cancel", status_code=202, response_model=TaskView)
async def cancel(task_id: TaskId, deps: Deps) -> TaskView:
    """Ends the task; a robot under way is brought to rest first (`cancelling`)."""
    return TaskView.model_validate(await deps.service.cancel(task_id))


@router.post("/tasks/{task_id}/pause", status_code=202, response_model=TaskView)
async def pause(task_id: TaskId, deps: Deps) -> TaskView:
    """The robot holds; nothing new is begun. Videos under way are finished."""
    return TaskView.model_validate(await deps.service.pause(task_id))


@router.post("/tasks/{task_id}/resume", status_code=202, response_model=TaskView)
async def resume(task_id: TaskId, deps: Deps) -> TaskView:
    """Goes on where the task was paused."""
    return TaskView.model_validate(await deps.service.resume(task_id))


@router.post(
    "/videos",
    status_code=201,
    response_model=UploadView,
    max_body_size=MAX_UPLOAD_BYTES,
    summary="Upload a recording of a person doing it",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(request: Request, deps: Deps) -> UploadView:
    """The MP4 file itself is the body, at most 32 MiB and one minute. It is kept for a day.

    Give the `video_id` as `video` of a task.
    """
    kind = request.headers.get("Content-Type", "video/mp4").partition(";")[0].strip().lower()
    if kind not in _VIDEO_TYPES:
        raise InvalidVideo(
            f"Content-Type is {kind[:80]!r}; send the MP4 file itself as the body, as video/mp4"
        )
    async with deps.codecs:
        mp4 = await request.body()
        found = await asyncio.to_thread(check_upload, mp4)
    video_id = await deps.artefacts.put_video(mp4, {**found, "source": "upload"})
    return UploadView.model_validate({"video_id": video_id, **found})
