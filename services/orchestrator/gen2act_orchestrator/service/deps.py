"""What the runners work with, gathered once at the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gen2act_orchestrator.service.ports import (
    ArtefactStore,
    Clock,
    Likeness,
    Policy,
    RobotStore,
    TaskStore,
    VideoGenerator,
)
from gen2act_orchestrator.service.settings import RunSettings


class Meter(Protocol):
    """Counts for operators; the Prometheus one is in the adapters."""

    def task_over(self, status: str, code: str) -> None: ...

    def stage_over(self, ended_by: str) -> None: ...

    def stage_restarted(self, code: str) -> None: ...

    def phase(self, phase: str, seconds: float) -> None: ...

    def tick(self, loop_ms: float, held: bool) -> None: ...

    def recordings_dropped(self, count: int) -> None: ...

    def robots_attached(self, count: int) -> None: ...


@dataclass(frozen=True)
class Deps:
    tasks: TaskStore
    robots: RobotStore
    artefacts: ArtefactStore
    videos: VideoGenerator
    policy: Policy
    likeness: Likeness
    meter: Meter
    clock: Clock
    settings: RunSettings
