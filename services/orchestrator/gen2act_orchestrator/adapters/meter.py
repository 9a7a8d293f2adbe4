"""Counts for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class PrometheusMeter:
    """`Meter` over a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tasks = Counter(
            "gen2act_tasks_over_total", "Tasks over", ["status", "code"], registry=registry
        )
        self._stages = Counter(
            "gen2act_stages_ended_total",
            "Stages ended by their gate",
            ["ended_by"],
            registry=registry,
        )
        self._restarts = Counter(
            "gen2act_stage_restarts_total",
            "Stages begun again at their boundary",
            ["code"],
            registry=registry,
        )
        self._phases = Histogram(
            "gen2act_stage_phase_seconds",
            "Parts of a stage [s]",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._loop = Histogram(
            "gen2act_tick_loop_seconds",
            "Capture to action applied, at the robot [s]",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.333, 0.5, 1),
            registry=registry,
        )
        self._ticks = Counter("gen2act_ticks_total", "Ticks", ["held"], registry=registry)
        self._dropped = Counter(
            "gen2act_recordings_dropped_total", "Progress not recorded", registry=registry
        )
        self._robots = Gauge("gen2act_robots_attached", "Robots attached here", registry=registry)

    def task_over(self, status: str, code: str) -> None:
        self._tasks.labels(status, code).inc()

    def stage_over(self, ended_by: str) -> None:
        self._stages.labels(ended_by).inc()

    def stage_restarted(self, code: str) -> None:
        self._restarts.labels(code).inc()

    def phase(self, phase: str, seconds: float) -> None:
        self._phases.labels(phase).observe(seconds)

    def tick(self, loop_ms: float, held: bool) -> None:
        self._loop.observe(loop_ms / 1000)
        self._ticks.labels("yes" if held else "no").inc()

    def recordings_dropped(self, count: int) -> None:
        self._dropped.inc(count)

    def robots_attached(self, count: int) -> None:
        self._robots.set(count)
