"""A control loop on a fake clock, with everything around it injected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gen2act_contracts.spec import ActionSpec
from gen2act_robot.capture import Capturer, ImageEncoding
from gen2act_robot.driver_thread import DriverThread
from gen2act_robot.fallback import SafetyBounds
from gen2act_robot.rollout import Rollout, RolloutOutcome, RolloutSettings, Tick
from gen2act_robot.testing import FakeClock, InlineExecutor, MockRobot, ScriptedLink, make_spec
from gen2act_robot.testing.scripted_link import MARK_M, Script
from gen2act_robot.watchdog import Watchdog


@dataclass
class Bench:
    """One rollout to run."""

    robot: MockRobot
    clock: FakeClock
    link: ScriptedLink
    driver: DriverThread
    rollout: Rollout
    watchdog: Watchdog
    ticks: list[Tick] = field(default_factory=list)
    capture_times_ns: list[int] = field(default_factory=list)
    apply_times_ns: list[int] = field(default_factory=list)

    async def run(self) -> RolloutOutcome:
        await self.link.open(self.rollout)
        return await self.clock.run(self.rollout.run())

    def at_ms(self, ms: float, call: Callable[[], None]) -> None:
        """Has `call` called so many virtual milliseconds from now."""
        self.clock.call_later(ms, call)

    def moves(self) -> list[tuple[int, int]]:
        """(observation, index in its chunk) of every executed action of the default script."""
        return [
            (round(float(a.displacement[0]) / MARK_M), round(float(a.displacement[1]) / MARK_M))
            for a in self.robot.recorded.actions
        ]


@pytest.fixture
def bench() -> Callable[..., Bench]:
    def make(
        script: Script | None = None,
        *,
        robot: MockRobot | None = None,
        spec: ActionSpec | None = None,
        max_ticks: int = 5,
        bounds: SafetyBounds | None = None,
        latency_allowance: float = 0.6,
        capture_ms: float = 0.0,
    ) -> Bench:
        asyncio.get_running_loop()  # events are made for the loop of the test
        robot = robot or MockRobot(image_size=64)
        spec = spec or make_spec()
        clock = FakeClock()
        link = ScriptedLink(clock, spec, script)
        driver = DriverThread(robot, InlineExecutor(), InlineExecutor())
        bounds = bounds or SafetyBounds()
        watchdog = Watchdog(driver.stop_now, bounds.watchdog_ms, now_ns=clock.now_ns)
        ticks: list[Tick] = []
        rollout = Rollout(
            RolloutSettings(spec, max_ticks, bounds, latency_allowance),
            driver,
            link,
            Capturer(robot, spec, ImageEncoding.JPEG),
            clock,
            watchdog,
            on_tick=ticks.append,
        )
        made = Bench(robot, clock, link, driver, rollout, watchdog, ticks)
        inner = robot.faults.on_call

        def on_call(name: str) -> None:
            if name == "observe":
                made.capture_times_ns.append(clock.now_ns())
                clock.spend(capture_ms)
            elif name == "apply":
                made.apply_times_ns.append(clock.now_ns())
            inner(name)

        robot.faults.on_call = on_call
        return made

    return make
