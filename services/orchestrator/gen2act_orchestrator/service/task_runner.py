"""One task on one robot: stage after stage, until it is over, interrupted or taken away."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import structlog

from gen2act_contracts.errors import (
    DeadlineExceeded,
    Gen2ActError,
    InvalidTransition,
    RobotFault,
    RobotStopped,
    Unavailable,
    UnsafeAction,
    VideoExpired,
)
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.gate import EndReason
from gen2act_orchestrator.domain.stage import Failure, StageStatus
from gen2act_orchestrator.domain.task import Change, Task, TaskStatus
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.ledger import Ledger, LedgerLost, TaskTaken
from gen2act_orchestrator.service.patience import PatienceOver
from gen2act_orchestrator.service.ports import RobotLink
from gen2act_orchestrator.service.speculation import Speculation
from gen2act_orchestrator.service.stage_runner import StageRunner
from gen2act_orchestrator.service.watch import TaskWatch

_log = structlog.get_logger(__name__)

# A goal whose video has just expired is made anew from the boundary; a lost policy, a robot that
# did not answer in time and a peer that is away may all be back at the next attempt.
_WORTH_A_RESTART = (Unavailable, DeadlineExceeded, RobotFault, VideoExpired)
_NEVER = (RobotStopped, UnsafeAction)
_ENDED_BY: dict[type[Gen2ActError], EndReason] = {
    RobotStopped: EndReason.STOPPED,
    UnsafeAction: EndReason.SAFETY,
}


class TaskRunner:
    """Runs a claimed task. `run` raises nothing but cancellation."""

    def __init__(self, deps: Deps, link: RobotLink, task: Task) -> None:
        self._deps = deps
        self._link = link
        self._ledger = Ledger(deps, task, link.lease_id)
        self._watch = TaskWatch(deps.tasks, task.id)
        self._speculation = Speculation(deps)

    async def run(self) -> None:
        """Until the task is over, the robot is lost or stopped, or the user cancels.

        Cancelling this (a drain) brings the robot to rest and leaves the task to whoever the
        robot attaches to next.
        """
        structlog.contextvars.bind_contextvars(task_id=self._ledger.task.id)
        following = asyncio.create_task(self._watch.follow())
        working = asyncio.create_task(self._stages())
        signals = self._link.signals
        interrupts = [
            asyncio.create_task(_happened(event))
            for event in (self._watch.ended, signals.lost, signals.stopped)
        ]
        try:
            await asyncio.wait({working, *interrupts}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and self._watch.over:
                # our own last write came back to us; let its writer return
                await asyncio.wait({working}, timeout=self._deps.settings.hold_s)
            if not working.done():
                await end(working)
                await self._interrupted()
        except (LedgerLost, TaskTaken) as error:
            _log.warning("the end of the task was not written here", why=str(error))
        except asyncio.CancelledError:
            await end(working)
            await self._rest("the orchestrator is shutting down")
            await self._hand_back(Failure("DRAINING", "the orchestrator was shut down"))
            raise
        finally:
            await self._speculation.drop()
            await end(following, *interrupts)
            structlog.contextvars.unbind_contextvars("task_id", "stage_id")

    async def _stages(self) -> None:
        """All stages that are left. Returns when the task is over or no longer ours."""
        while self._ledger.is_running:
            try:
                await StageRunner(
                    self._deps, self._link, self._ledger, self._watch, self._speculation
                ).run()
            except LedgerLost as error:
                _log.error("the store stayed away; the task waits for it", error=str(error))
                await self._rest("the store is away")
                return
            except TaskTaken as error:
                # by a user's cancellation or another process: the watch tells which
                _log.info("task is no longer ours to run", reason=str(error))
                await self._rest("the task was taken away")
                await self._watch_or_give_up()
                return
            except PatienceOver as over:
                await self._rest(over.error.code)
                await self._end_task(Failure(over.error.code, str(over)), None)
                return
            except Gen2ActError as error:
                if not await self._failed(error):
                    return
            except Exception as error:
                incident = uuid.uuid4().hex[:12]
                _log.exception("a stage failed by a defect", incident=incident)
                await self._rest("internal error")
                message = f"internal error {type(error).__name__}, incident {incident}"
                await self._end_task(Failure("INTERNAL", message), None)
                return

    async def _watch_or_give_up(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deps.settings.hold_s):
                await self._watch.ended.wait()

    async def _failed(self, error: Gen2ActError) -> bool:
        """After a failed attempt: True if the stage begins again."""
        if self._link.signals.lost.is_set() or self._link.signals.stopped.is_set():
            await asyncio.Event().wait()  # `run` is about to cancel us, and knows the reason
        _log.warning("stage attempt failed", code=error.code, error=error.message)
        await self._rest(error.code)
        failure = Failure(error.code, error.message)
        again = isinstance(error, _WORTH_A_RESTART) and not isinstance(error, _NEVER)
        if not again:
            await self._end_task(failure, _ENDED_BY.get(type(error)))
            return False
        self._deps.meter.stage_restarted(error.code)
        try:
            await self._ledger.write(
                lambda task: transitions.restart_stage(
                    task,
                    self._link.lease_id,
                    failure,
                    self._deps.clock(),
                    self._deps.settings.limits,
                )
            )
        except (TaskTaken, LedgerLost) as lost:
            _log.warning("the restart could not be written", error=str(lost))
            return False
        await asyncio.sleep(self._deps.settings.restart_pause_s)
        return self._ledger.is_running

    async def _end_task(self, failure: Failure, ended_by: EndReason | None) -> None:
        try:
            await self._ledger.write(
                lambda task: transitions.fail(task, failure, self._deps.clock(), ended_by)
            )
        except (TaskTaken, LedgerLost) as lost:
            _log.warning("the failure was not written", failure=failure.message, why=str(lost))

    async def _interrupted(self) -> None:
        signals = self._link.signals
        if signals.stopped.is_set():
            failure = Failure("ROBOT_STOPPED", "the robot was stopped by a person")
            await self._end_task(failure, EndReason.STOPPED)
        elif signals.lost.is_set():
            await self._hand_back(Failure("ROBOT_LOST", "the robot's connection broke"))
        else:
            await self._rest("the task was cancelled")
            await self._ledger.write(
                lambda task: (
                    transitions.cancelled(task, self._deps.clock())
                    if task.status is TaskStatus.CANCELLING
                    else Change(task)
                )
            )

    async def _hand_back(self, cause: Failure) -> None:
        """Leave the task to the robot's next attachment. The sweeper does it if this cannot."""
        lease_id, deps = self._link.lease_id, self._deps
        try:
            await deps.tasks.update(
                self._ledger.task.id,
                lambda task: transitions.interrupt(
                    _ours(task, lease_id), cause, deps.clock(), deps.settings.limits
                ),
            )
        except Gen2ActError as error:
            _log.warning("the interruption could not be written", error=error.message)

    async def _rest(self, reason: str) -> None:
        """End a rollout that may be going on; a robot that does not answer is stopped."""
        stage = self._ledger.task.current
        rolling = stage is not None and stage.status is StageStatus.ROLLING_OUT
        if stage is None or not rolling or self._link.signals.lost.is_set():
            return  # nothing moves; and a robot that lost its lease holds by itself
        try:
            await self._link.end_rollout(
                stage.attempt_id, reason, deadline_s=self._deps.settings.hold_s
            )
        except InvalidTransition:
            return  # no rollout is running
        except Gen2ActError as error:
            _log.warning("the robot did not end its rollout; stopping it", error=error.message)
            await self._link.stop(reason)


def _ours(task: Task, lease_id: str) -> Task:
    if task.lease_id != lease_id:
        raise InvalidTransition(f"task {task.id} is run under another lease now")
    return task


async def _happened(event: asyncio.Event) -> None:
    await event.wait()
