"""The one thread that a driver lives in, and the stop latch in front of its motors."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from gen2act_contracts.errors import RobotLost, RobotStopped
from gen2act_robot.robot import (
    Action,
    Judge,
    ResetRequest,
    Robot,
    RobotLimits,
    RobotObservation,
    SimulatorStateSource,
    StageVerdict,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


class DriverThread:
    """Runs a driver's calls in one thread, off the event loop.

    The latch is checked in that thread, right before the driver is called, so that an action that
    was already on its way when the stop came is not executed.

    Args:
        executor: runs the calls; must have one worker. Tests pass one that runs them at once.
        stop_executor: runs `stop`; must not be the same thread. Default: the event loop's threads.
        call_timeout_s: [s] a call that takes longer is given up on.
        reset_timeout_s: [s] the same for resets, which move the arm or build a scene.
    """

    def __init__(
        self,
        robot: Robot,
        executor: Executor | None = None,
        stop_executor: Executor | None = None,
        *,
        call_timeout_s: float = 5.0,
        reset_timeout_s: float = 120.0,
    ) -> None:
        self._call_timeout_s = call_timeout_s
        self._reset_timeout_s = reset_timeout_s
        self._robot = robot
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="robot-driver")
        self._stop_executor = stop_executor
        self._lock = threading.Lock()
        self._stop_reason: str | None = None

    @property
    def name(self) -> str:
        return self._robot.name

    @property
    def robot(self) -> Robot:
        return self._robot

    @property
    def limits(self) -> RobotLimits:
        return self._robot.limits

    @property
    def stop_reason(self) -> str | None:
        """Why the robot is stopped; None while it may move."""
        return self._stop_reason

    async def run(self, call: Callable[[], T], timeout_s: float | None = None) -> T:
        """Runs `call` in the driver's thread, after what is queued there.

        Raises:
            RobotLost: it did not return in time. The thread is still in it, so later calls will
                fail too until it does; `stop` works all the same.
        """
        timeout_s = self._call_timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        except TimeoutError:
            raise RobotLost(f"the driver did not return within {timeout_s:g} s") from None

    async def observe(self) -> RobotObservation:
        return await self.run(self._robot.observe)

    async def apply(self, action: Action) -> None:
        """Begins a motion.

        Raises:
            RobotStopped: the latch is set; the driver was not called.
        """
        await self.run(lambda: self._unless_stopped(lambda: self._robot.apply(action)))

    async def hold(self) -> None:
        """Keeps still. A stopped robot is left alone: it is still already."""

        def call() -> None:
            if self._stop_reason is None:
                self._robot.hold()

        await self.run(call)

    async def reset(self, request: ResetRequest) -> None:
        """Goes to the reset pose and releases the latch.

        Raises:
            RobotStopped: a stop came while the robot was on its way.
        """
        with self._lock:
            self._stop_reason = None
        await self.run(
            lambda: self._unless_stopped(lambda: self._robot.reset(request)),
            self._reset_timeout_s,
        )
        if self._stop_reason is not None:
            raise RobotStopped(f"stopped during the reset: {self._stop_reason}")

    def stop_now(self, reason: str) -> None:
        """Latches and stops, from the calling thread, without waiting for the driver's."""
        with self._lock:
            first = self._stop_reason is None
            if first:
                self._stop_reason = reason
        if first:
            _log.warning("robot stopped: %s", reason)
        self._robot.stop(reason)

    async def stop(self, reason: str) -> None:
        """As `stop_now`, in a thread of its own: the driver's may be hanging."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._stop_executor, self.stop_now, reason)

    async def simulator_state(self) -> bytes:
        """Opaque simulator state; empty for a real robot."""
        robot = self._robot
        if not isinstance(robot, SimulatorStateSource):
            return b""
        return await self.run(robot.simulator_state)

    async def begin_stage(self, task: str) -> None:
        robot = self._robot
        if isinstance(robot, Judge):
            await self.run(lambda: robot.begin_stage(task))

    async def verdict(self) -> StageVerdict | None:
        robot = self._robot
        if not isinstance(robot, Judge):
            return None
        return await self.run(robot.verdict)

    async def close(self) -> None:
        """Holds (unless stopped) and lets go of the hardware.

        Raises:
            RobotLost: the driver hangs; it was stopped instead, and its thread is still there.
        """
        try:
            await self.hold()
            await self.run(self._robot.close)
        except RobotLost:
            await self.stop("the driver hangs")
            raise
        finally:
            self._executor.shutdown(wait=False)

    def _unless_stopped(self, call: Callable[[], None]) -> None:
        if self._stop_reason is not None:
            raise RobotStopped(f"the robot is stopped: {self._stop_reason}")
        call()
