"""The robots attached to this process, each with a runner that works off its queue."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from gen2act_contracts.errors import Gen2ActError, InvalidTransition, Unavailable
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.queueing import next_task
from gen2act_orchestrator.domain.task import Change, Task, TaskStatus
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.patience import Patience, patiently
from gen2act_orchestrator.service.ports import RobotLink
from gen2act_orchestrator.service.task_runner import TaskRunner

_log = structlog.get_logger(__name__)

_STOP_PATIENCE = Patience(total_s=3.0)  # a person waits for the answer


class RobotRunner:
    """Takes one task after another for one attachment."""

    def __init__(self, deps: Deps, link: RobotLink) -> None:
        self._deps = deps
        self.link = link
        self.wake = asyncio.Event()
        self.draining = False

    async def run(self) -> None:
        """Until the robot is lost. Cancel to drain."""
        structlog.contextvars.bind_contextvars(robot_id=self.link.driver.robot_id)
        while not (self.draining or self.link.signals.lost.is_set()):
            self.wake.clear()
            try:
                task = await self._claim_next()
            except Gen2ActError as error:
                if not isinstance(error, Unavailable):
                    _log.warning("no task claimed", code=error.code, error=error.message)
                task = None
            if task is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._deps.settings.poll_s):
                        await self.wake.wait()
            else:
                await TaskRunner(self._deps, self.link, task).run()

    async def _claim_next(self) -> Task | None:
        robot_id, lease_id = self.link.driver.robot_id, self.link.lease_id
        if await self._is_stopped(robot_id):
            return None
        task = next_task(await self._deps.tasks.queue(robot_id), robot_id)
        if task is None:
            return None
        if not await self._deps.robots.renew(self.link.driver, lease_id):
            # The robot has attached to another replica; the gateway here has yet to notice.
            self.link.signals.lost.set()
            return None
        if task.status is TaskStatus.CANCELLING:  # left behind by a crash; nothing moves any more
            await self._deps.tasks.update(task.id, self._close_cancelled)
            return None
        try:
            task = await self._deps.tasks.update(
                task.id,
                lambda t: transitions.claim(
                    t, robot_id, lease_id, self._deps.clock(), self._deps.settings.limits
                ),
            )
        except InvalidTransition:
            return None  # another robot, or its user, was quicker
        return task if task.status is TaskStatus.RUNNING else None

    def _close_cancelled(self, task: Task) -> Change:
        if task.status is TaskStatus.CANCELLING:
            return transitions.cancelled(task, self._deps.clock())
        return Change(task)

    async def _is_stopped(self, robot_id: str) -> bool:
        signals = self.link.signals
        if signals.unrecorded_stop is not None:
            await self._deps.robots.set_stopped(robot_id, signals.unrecorded_stop)
            signals.unrecorded_stop = None
        if await self._deps.robots.stop_reason(robot_id) is not None:
            return True
        signals.stopped.clear()
        return False


class Fleet:
    """All runners of this process."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._runners: dict[str, RobotRunner] = {}
        self._running: dict[RobotRunner, asyncio.Task[None]] = {}

    def attach(self, link: RobotLink) -> None:
        """Start working for a robot. An earlier attachment of it is over."""
        robot_id = link.driver.robot_id
        earlier = self._runners.get(robot_id)
        if earlier is not None:
            earlier.link.signals.lost.set()
        runner = RobotRunner(self._deps, link)
        self._runners[robot_id] = runner
        self._running[runner] = asyncio.create_task(runner.run(), name=f"robot {robot_id}")
        self._deps.meter.robots_attached(len(self._runners))

    async def detach(self, link: RobotLink) -> None:
        """The attachment is over. Returns when its runner has written so, or could not."""
        link.signals.lost.set()
        for runner, running in list(self._running.items()):
            if runner.link is link:
                runner.wake.set()
                await asyncio.wait({running})
                del self._running[runner]
                if not running.cancelled() and (error := running.exception()) is not None:
                    _log.error("runner failed by a defect", exc_info=error)
                if self._runners.get(link.driver.robot_id) is runner:
                    del self._runners[link.driver.robot_id]
        self._deps.meter.robots_attached(len(self._runners))

    def has(self, robot_id: str) -> bool:
        return robot_id in self._runners

    def wake(self) -> None:
        """There may be something to do."""
        for runner in self._runners.values():
            runner.wake.set()

    async def stop(self, robot_id: str, reason: str) -> bool:
        """Stop a robot at once, and keep it stopped until `release`.

        The robot is told before the stop is written: stopping waits for nothing.

        Returns:
            Whether the stop could be written. If not, it is as soon as the store is back, as long
            as the robot stays attached here.

        Raises:
            UnknownRobot: no robot of this name has ever attached.
            StoreUnavailable: the store is away and the robot is not attached here.
        """
        runner = self._runners.get(robot_id)
        if runner is None:
            await self._deps.robots.robot(robot_id)
            await self._deps.robots.set_stopped(robot_id, reason)
            return True
        runner.link.signals.unrecorded_stop = reason
        await self.obey_stop(runner.link, reason)
        try:
            await patiently(lambda: self._deps.robots.set_stopped(robot_id, reason), _STOP_PATIENCE)
        except Unavailable:
            return False
        runner.link.signals.unrecorded_stop = None
        return True

    async def obey_stop(self, link: RobotLink, reason: str) -> None:
        """Carry out a person's stop on a robot attached here."""
        await link.stop(reason)
        link.signals.stopped.set()

    async def release(self, robot_id: str) -> None:
        """Let a stopped robot move again.

        Raises:
            UnknownRobot: no robot of this name has ever attached.
        """
        await self._deps.robots.robot(robot_id)
        await self._deps.robots.set_stopped(robot_id, None)
        runner = self._runners.get(robot_id)
        if runner is not None:
            runner.link.signals.unrecorded_stop = None
            runner.wake.set()

    async def drain(self, bound_s: float) -> None:
        """Bring every robot to rest and hand its task back, within `bound_s` [s]."""
        running = set(self._running.values())
        for runner, runner_task in self._running.items():
            # beside the cancellation, which the Redis client may swallow (see `ending`)
            runner.draining = True
            runner.wake.set()
            runner_task.cancel()
        if running:
            await asyncio.wait(running, timeout=bound_s)
