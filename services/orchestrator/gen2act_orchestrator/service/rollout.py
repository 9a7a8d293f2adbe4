"""One rollout: start it, read its ticks through the gate, end it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from gen2act_contracts.errors import (
    DeadlineExceeded,
    Gen2ActError,
    InvalidTransition,
    PeerUnavailable,
    RobotFault,
    RobotStopped,
    UnsafeAction,
)
from gen2act_contracts.spec import ActionSpec
from gen2act_orchestrator.domain.events import TICK, Event
from gen2act_orchestrator.domain.gate import EndReason, GateSettings, StageGate
from gen2act_orchestrator.domain.stage import Stage, Verdict
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.ports import RobotLink
from gen2act_orchestrator.service.recorder import Recorder
from gen2act_orchestrator.service.values import Ended, Scene, Tick
from gen2act_orchestrator.service.watch import TaskWatch


@dataclass(frozen=True)
class RolloutOutcome:
    """A rollout that ended by its gate."""

    ended_by: EndReason
    ticks: int
    verdict: Verdict | None
    last_jpeg: bytes | None


class RolloutRun:
    """Runs the rollout of one attempt of a stage on one robot.

    `on_likely_over` is told what the robot saw at every tick that was sure of the end.
    """

    def __init__(
        self,
        deps: Deps,
        link: RobotLink,
        watch: TaskWatch,
        recorder: Recorder,
        stage: Stage,
        on_likely_over: Callable[[Scene], None],
    ) -> None:
        self._deps = deps
        self._settings = deps.settings
        self._link = link
        self._watch = watch
        self._recorder = recorder
        self._stage = stage
        self._on_likely_over = on_likely_over

    async def run(
        self, task_id: str, goal_id: str, spec: ActionSpec, max_ticks: int
    ) -> RolloutOutcome:
        """From StartRollout to the robot's RolloutEnded.

        Raises:
            PeerUnavailable: the robot lost the policy.
            RobotStopped: somebody stopped it.
            UnsafeAction: its safety gate refused an action.
            RobotFault, DeadlineExceeded: it did not do as told.
        """
        await self._link.start_rollout(
            task_id=task_id,
            attempt_id=self._stage.attempt_id,
            task=self._stage.task,
            goal_id=goal_id,
            spec=spec,
            max_ticks=max_ticks,
            deadline_s=self._settings.start_s,
        )
        gate = StageGate(
            GateSettings(self._settings.gate_threshold, self._settings.gate_consecutive, max_ticks)
        )
        holder = asyncio.create_task(self._follow_pause())
        try:
            decision, ended = await self._until_gate(gate)
        finally:
            await end(holder)
        if ended is None:
            ended = await self._end(decision)
        return RolloutOutcome(decision, gate.ticks, ended.verdict, ended.last_jpeg)

    async def _follow_pause(self) -> None:
        """Tell the robot to hold, and to go on, as the user asks."""
        told = False
        while True:
            if self._watch.paused is not told:
                told = self._watch.paused
                # A rollout that has just ended has nothing to hold.
                with contextlib.suppress(Gen2ActError):
                    await self._link.hold(told, deadline_s=self._settings.hold_s)
            await self._watch.changed.wait()
            self._watch.changed.clear()

    async def _until_gate(self, gate: StageGate) -> tuple[EndReason, Ended | None]:
        while True:
            report = await self._next_report()
            if isinstance(report, Ended):
                return _reason(report), report
            self._record(report)
            decision = gate.observe(report.number, report.terminate_probability, held=report.held)
            if gate.likely_over and report.seen is not None:
                self._on_likely_over(report.seen)
            if decision is not None:
                return decision, None

    async def _next_report(self) -> Tick | Ended:
        while True:
            paused_before = self._watch.paused
            try:
                return await self._link.next_report(
                    self._stage.attempt_id, deadline_s=self._settings.tick_s
                )
            except DeadlineExceeded:
                # a robot that holds has nothing to report
                if not (paused_before or self._watch.paused):
                    raise

    async def _end(self, decision: EndReason) -> Ended:
        """Bring the robot to rest and take its report of the end."""
        attempt_id, end_s = self._stage.attempt_id, self._settings.end_s
        # The robot may have ended by itself just now; its report is then under way.
        with contextlib.suppress(InvalidTransition):
            await self._link.end_rollout(attempt_id, decision.value, deadline_s=end_s)
        give_up_at = asyncio.get_running_loop().time() + end_s
        while True:
            left_s = give_up_at - asyncio.get_running_loop().time()
            report = await self._link.next_report(attempt_id, deadline_s=max(0.01, left_s))
            if isinstance(report, Ended):
                return report

    def _record(self, tick: Tick) -> None:
        self._deps.meter.tick(tick.loop_ms, tick.held)
        probability = round(min(1.0, max(0.0, tick.terminate_probability)), 4)
        event = Event(
            TICK,
            self._deps.clock(),
            self._stage.index,
            {
                "tick": tick.number,
                # NaN fails both comparisons above in one way or the other: JSON has no word for it
                "terminate_probability": probability if probability == probability else 0.0,
                "loop_ms": round(tick.loop_ms, 2) if tick.loop_ms == tick.loop_ms else 0.0,
                "held": tick.held,
            },
        )
        self._recorder.add(event, None if tick.seen is None else tick.seen.jpeg)


def _reason(ended: Ended) -> EndReason:
    """What an end by the robot itself means.

    Raises:
        Gen2ActError: anything but the tick budget is no end of a stage.
    """
    detail = f": {ended.detail}" if ended.detail else ""
    match ended.reason:
        case "MAX_TICKS":
            return EndReason.TICK_BUDGET
        case "STOPPED":
            raise RobotStopped(f"the robot was stopped{detail}")
        case "POLICY_LOST":
            raise PeerUnavailable(f"the robot lost the policy{detail}")
        case "SAFETY":
            raise UnsafeAction(f"the robot's safety gate ended the rollout{detail}")
        case other:
            raise RobotFault(f"the robot ended the rollout by itself ({other}){detail}")
