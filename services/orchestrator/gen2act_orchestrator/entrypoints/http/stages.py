"""Pictures and videos of a stage."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from gen2act_contracts.errors import ArtefactMissing
from gen2act_orchestrator.adapters.recording import encode_rollout
from gen2act_orchestrator.entrypoints.http.deps import Deps, StageNumber, TaskId

router = APIRouter(prefix="/tasks/{task_id}/stages/{number}", tags=["artefacts"])

_MP4: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}, "description": "MP4 (H.264)"}
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "JPEG"}
}


@router.get("/human.mp4", response_class=Response, responses=_MP4)
async def human(task_id: TaskId, number: StageNumber, deps: Deps) -> Response:
    """The human video that the stage imitated."""
    stage = await deps.service.stage(task_id, number)
    if stage.video is None:
        raise ArtefactMissing(f"stage {number} has no human video yet")
    return Response(await deps.artefacts.video(stage.video.id), media_type="video/mp4")


@router.get("/rollout.mp4", response_class=Response, responses=_MP4)
async def rollout(task_id: TaskId, number: StageNumber, deps: Deps) -> Response:
    """What the robot saw, at the pace of its control loop."""
    await deps.service.stage(task_id, number)
    jpegs = await deps.artefacts.frames(task_id, number)
    async with deps.codecs:
        mp4 = await asyncio.to_thread(encode_rollout, jpegs, deps.rollout_fps)
    return Response(mp4, media_type="video/mp4")


@router.get("/first.jpg", response_class=Response, responses=_JPEG)
async def first(task_id: TaskId, number: StageNumber, deps: Deps) -> Response:
    """The scene before the stage, without the arm."""
    await deps.service.stage(task_id, number)
    return Response(await deps.artefacts.first(task_id, number), media_type="image/jpeg")


@router.get("/last.jpg", response_class=Response, responses=_JPEG)
async def last(task_id: TaskId, number: StageNumber, deps: Deps) -> Response:
    """The scene after the rollout."""
    await deps.service.stage(task_id, number)
    return Response(await deps.artefacts.last(task_id, number), media_type="image/jpeg")
