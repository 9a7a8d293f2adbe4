"""What the routes call, and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request
from prometheus_client import CollectorRegistry

from gen2act_orchestrator.service.fleet import Fleet
from gen2act_orchestrator.service.ports import ArtefactStore, RobotStore, TaskStore
from gen2act_orchestrator.service.tasks import TaskService


@dataclass(frozen=True)
class HttpDeps:
    """One per app, at `app.state.deps`."""

    service: TaskService
    fleet: Fleet
    tasks: TaskStore
    robots: RobotStore
    artefacts: ArtefactStore
    registry: CollectorRegistry
    is_draining: Callable[[], bool]
    rollout_fps: float  # of the recorded rollout
    event_streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(100))
    # Decoding and encoding take a core each; two at a time leave the rest to the control loops.
    codecs: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


def _deps(request: Request) -> HttpDeps:
    deps: HttpDeps = request.app.state.deps
    return deps


Deps = Annotated[HttpDeps, Depends(_deps)]
TaskId = Annotated[str, Path(min_length=1, max_length=64, description="from POST /tasks")]
StageNumber = Annotated[int, Path(ge=0, le=1000, description="from 0")]
RobotId = Annotated[str, Path(min_length=1, max_length=64)]
