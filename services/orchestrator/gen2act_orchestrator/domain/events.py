"""What happened to a task, in order. Users read these by server-sent events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Detail: TypeAlias = str | int | float | bool | list[str] | None

# Progress within a state. All other events are transitions and are written with the task.
VIDEO_PROGRESS = "video.progress"
TICK = "stage.tick"
VIDEO_SPECULATED = "video.speculated"  # a video begun before its scene: used, or thrown away


@dataclass(frozen=True)
class Event:
    """One event of one task; its id is given by the store."""

    type: str  # "task.<status>", "stage.<status>", "stage.restarted", or one of the three above
    at: float  # [s, Unix]
    stage: int | None = None  # number of the stage, from 0
    data: dict[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEvent:
    """An event as read back; `id` orders events of one task and resumes reading after it."""

    id: str
    event: Event
