import asyncio
import threading

import numpy as np
import pytest

from gen2act_contracts.errors import RobotLost, RobotStopped
from gen2act_robot.driver_thread import DriverThread
from gen2act_robot.robot import Action, ResetRequest
from gen2act_robot.testing import JudgedMockRobot, MockRobot, until

ACTION = Action(np.zeros(3, np.float32), False, 1 / 3)
RESET = ResetRequest("task", "open the drawer")


async def test_all_calls_but_stop_come_from_one_thread() -> None:
    threads: dict[str, set[int]] = {}
    robot = MockRobot(image_size=64)
    robot.faults.on_call = lambda name: threads.setdefault(name, set()).add(threading.get_ident())
    driver = DriverThread(robot)
    for _ in range(3):
        await driver.observe()
        await driver.apply(ACTION)
        await driver.hold()
    await driver.reset(RESET)
    await driver.close()
    assert len(set().union(*threads.values())) == 1
    assert threading.get_ident() not in threads["apply"]


async def test_a_stopped_robot_moves_only_after_the_next_reset() -> None:
    robot = MockRobot(image_size=64)
    driver = DriverThread(robot)
    await driver.stop("button")
    with pytest.raises(RobotStopped, match="button"):
        await driver.apply(ACTION)
    await driver.hold()
    assert robot.recorded.calls == ["stop"]  # a stopped driver is not even asked to hold
    await driver.reset(RESET)
    await driver.apply(ACTION)
    assert len(robot.recorded.actions) == 1
    await driver.close()


async def test_a_stop_overtakes_an_action_that_waits_for_the_driver() -> None:
    robot = MockRobot(image_size=64)
    entered, release = threading.Event(), threading.Event()

    def on_call(name: str) -> None:
        if name == "observe":
            entered.set()
            assert release.wait(30)

    robot.faults.on_call = on_call
    driver = DriverThread(robot)
    observing = asyncio.create_task(driver.observe())
    await until(entered.is_set)
    applying = asyncio.create_task(driver.apply(ACTION))
    await driver.stop("button")  # returns although the driver's thread hangs
    assert robot.recorded.stops == ["button"]
    release.set()
    await observing
    with pytest.raises(RobotStopped):
        await applying
    assert robot.recorded.actions == []
    await driver.close()


async def test_a_driver_call_that_hangs_is_given_up_on() -> None:
    robot = MockRobot(image_size=64)
    release = threading.Event()

    def hang(name: str) -> None:
        assert release.wait(30)

    robot.faults.on_call = hang
    driver = DriverThread(robot, call_timeout_s=0.01)
    with pytest.raises(RobotLost, match="did not return"):
        await driver.observe()
    release.set()


async def test_a_stop_during_a_reset_wins() -> None:
    robot = MockRobot(image_size=64)
    driver = DriverThread(robot)
    robot.faults.on_call = lambda name: driver.stop_now("door opened") if name == "reset" else None
    with pytest.raises(RobotStopped, match="door opened"):
        await driver.reset(RESET)
    assert driver.stop_reason == "door opened"
    await driver.close()


async def test_only_simulated_robots_have_state_and_verdict() -> None:
    real, simulated = DriverThread(MockRobot()), DriverThread(JudgedMockRobot())
    assert await real.simulator_state() == b""
    assert await real.verdict() is None
    assert await simulated.simulator_state() == b"mock-state"
    await simulated.begin_stage("open the drawer")
    verdict = await simulated.verdict()
    assert verdict is not None
    assert verdict.success
    await real.close()
    await simulated.close()


async def test_closing_holds_first() -> None:
    robot = MockRobot()
    await DriverThread(robot).close()
    assert robot.recorded.calls == ["hold", "close"]


async def test_a_driver_that_hangs_at_the_end_is_stopped() -> None:
    robot = MockRobot()
    release = threading.Event()

    def hang(name: str) -> None:
        assert release.wait(30)

    robot.faults.on_call = hang
    with pytest.raises(RobotLost):
        await DriverThread(robot, call_timeout_s=0.01).close()
    assert robot.recorded.stops == ["the driver hangs"]
    release.set()
