"""One stage from its boundary: reset, imagine, prepare, roll out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import structlog

from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.spec import ActionSpec, check_compatible
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.events import VIDEO_PROGRESS, Detail, Event
from gen2act_orchestrator.domain.stage import Stage, Video
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.ledger import Ledger
from gen2act_orchestrator.service.patience import outlast
from gen2act_orchestrator.service.ports import OnProgress, RobotLink
from gen2act_orchestrator.service.recorder import Recorder
from gen2act_orchestrator.service.rollout import RolloutRun
from gen2act_orchestrator.service.speculation import Speculation
from gen2act_orchestrator.service.values import Generation, Scene
from gen2act_orchestrator.service.watch import TaskWatch

_log = structlog.get_logger(__name__)


class StageRunner:
    """Runs the current stage of the ledger's task once.

    Raises (from `run`):
        Gen2ActError: the attempt failed.
        PatienceOver: a peer stayed away for too long.
        LedgerLost, TaskTaken: see `Ledger`.
    """

    def __init__(
        self,
        deps: Deps,
        link: RobotLink,
        ledger: Ledger,
        watch: TaskWatch,
        speculation: Speculation,
    ) -> None:
        self._deps = deps
        self._settings = deps.settings
        self._link = link
        self._ledger = ledger
        self._watch = watch
        self._speculation = speculation

    async def run(self) -> None:
        deps, ledger, lease_id = self._deps, self._ledger, self._link.lease_id
        # Before anything moves: the policy may have been replaced since the robot attached.
        spec = await self._compatible_spec()
        await self._watch.running.wait()
        await ledger.write(lambda task: transitions.begin_stage(task, lease_id, deps.clock()))
        stage = ledger.stage
        structlog.contextvars.bind_contextvars(stage_id=stage.attempt_id)
        async with Recorder(deps.tasks, deps.artefacts, ledger.task.id, stage.index) as recorder:
            with self._timed("reset"):
                scene = await self._reset(stage)
            await ledger.write(
                lambda task: transitions.scene_captured(task, lease_id, deps.clock())
            )
            with self._timed("imagine"):
                video = await self._speculation.take(stage, scene, recorder)
                if video is None:
                    tell = self._teller(stage, recorder)
                    video = await self._imagine(stage, scene, stage.attempts - 1, tell)
            await ledger.write(
                lambda task: transitions.imagined(task, lease_id, video, deps.clock())
            )
            with self._timed("prepare"):
                goal_id = await outlast(
                    lambda: deps.policy.prepare_goal(video.id, deadline_s=self._settings.prepare_s),
                    self._settings.peer_patience,
                )
            await self._watch.running.wait()
            await ledger.write(
                lambda task: transitions.prepared(task, lease_id, goal_id, deps.clock())
            )
            with self._timed("rollout"):
                rollout = RolloutRun(deps, self._link, self._watch, recorder, stage, self._foresee)
                outcome = await rollout.run(ledger.task.id, goal_id, spec, ledger.task.max_ticks)
        deps.meter.recordings_dropped(recorder.dropped)
        if outcome.last_jpeg is not None:
            await self._keep(
                deps.artefacts.put_last(ledger.task.id, stage.index, outcome.last_jpeg)
            )
        await ledger.write(
            lambda task: transitions.stage_ended(
                task,
                lease_id,
                outcome.ended_by,
                outcome.ticks,
                outcome.verdict,
                deps.clock(),
                self._settings.limits,
            )
        )
        deps.meter.stage_over(outcome.ended_by.value)
        _log.info("stage ended", ended_by=outcome.ended_by.value, ticks=outcome.ticks)

    async def _compatible_spec(self) -> ActionSpec:
        spec = await outlast(
            lambda: self._deps.policy.spec(deadline_s=self._settings.spec_s),
            self._settings.peer_patience,
        )
        driver = self._link.driver
        check_compatible(spec, driver.dimensions, driver.frame, driver.min_control_period_s)
        return spec

    async def _reset(self, stage: Stage) -> Scene:
        task = self._ledger.task
        scene = await self._link.reset_and_capture(
            task_id=task.id,
            attempt_id=stage.attempt_id,
            task=stage.task,
            # Also when the first stage begins again: the robot may not have got the first command.
            new_scene=stage.index == 0,
            activity_tasks=[s.task for s in task.stages],
            deadline_s=self._settings.reset_s,
        )
        await self._keep(self._deps.artefacts.put_first(task.id, stage.index, scene.jpeg))
        return scene

    def _foresee(self, scene: Scene) -> None:
        """The stage is likely over: begin the next one's video from what the robot sees."""
        stages, coming = self._ledger.task.stages, self._ledger.stage.index + 1
        if coming < len(stages):
            self._speculation.begin(
                stages[coming],
                scene,
                lambda stage, seen: self._imagine(stage, seen, 0, lambda *_: None),
            )

    async def _imagine(
        self, stage: Stage, scene: Scene, restarts: int, on_progress: OnProgress
    ) -> Video:
        """A human video of the stage. The video service tries the seeds that follow this one."""
        request = Generation(
            task=stage.task,
            scene=scene,
            seed=(stage.seed + 100 * restarts) % 2**63,
            backend=self._ledger.task.backend,
            source_video_id=stage.source_video_id,
            request_id=stage.attempt_id,
        )
        return await outlast(
            lambda: self._deps.videos.generate(
                request, on_progress, deadline_s=self._settings.generate_s
            ),
            self._settings.peer_patience,
        )

    def _teller(self, stage: Stage, recorder: Recorder) -> OnProgress:
        """Notes the progress of a video in the task's events, now and then."""
        told_at = 0.0
        told = ""

        def on_progress(fraction: float, phase: str) -> None:
            nonlocal told_at, told
            now = time.monotonic()
            # A new phase is always told: it may say that something failed and is tried again.
            if phase != told or now - told_at >= self._settings.progress_every_s:
                told_at, told = now, phase
                data: dict[str, Detail] = {"fraction": round(fraction, 3), "phase": phase[:160]}
                recorder.add(Event(VIDEO_PROGRESS, self._deps.clock(), stage.index, data))

        return on_progress

    async def _keep(self, writing: Awaitable[None]) -> None:
        """Store a picture for people. A task does not fail for want of one."""
        try:
            await writing
        except Gen2ActError as error:
            _log.warning("picture not stored", code=error.code, error=error.message)
            self._deps.meter.recordings_dropped(1)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = asyncio.get_running_loop().time()
        yield
        self._deps.meter.phase(phase, asyncio.get_running_loop().time() - began)
