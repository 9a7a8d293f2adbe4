from typing import Any

import numpy as np
import pytest

from gen2act_robot.chunks import PlannedAction
from gen2act_robot.drivers import DriverError, load_driver
from gen2act_robot.gate import ActionGate
from gen2act_robot.robot import Action, Judge, ResetRequest, SimulatorStateSource
from gen2act_robot.testing import make_spec

pytest.importorskip("gen2act_sim")

COFFEE = (
    "push the mug to the coffee machine",
    "press the button of the coffee machine",
    "pull the mug away from the coffee machine",
)


def sim(**options: object) -> Any:
    return load_driver("sim", options)


def first(task_id: str, *tasks: str) -> ResetRequest:
    return ResetRequest(task_id, tasks[0], new_scene=True, activity_tasks=tasks)


def act(robot: Any, displacement: Any, closed: bool) -> None:
    robot.apply(Action(np.asarray(displacement, np.float32), closed, 1 / 3))


def test_it_is_a_simulated_robot_with_a_judge() -> None:
    robot = sim()
    assert isinstance(robot, SimulatorStateSource)
    assert isinstance(robot, Judge)


def test_the_scene_is_the_one_that_holds_the_tasks_first_stage() -> None:
    robot = sim()
    robot.reset(first("1", "open the drawer", "close the drawer"))
    assert robot.world.scene == "drawer"
    assert robot.world.stage == "drawer-open"
    robot.reset(first("2", *COFFEE))
    assert robot.world.scene == "coffee"
    robot.close()


def test_seed_and_number_of_the_task_determine_the_scene() -> None:
    robot, later = sim(seed=7), sim(seed=8)
    robot.reset(first("1", "open the drawer"))
    robot.reset(first("2", "open the drawer"))
    later.reset(first("x", "open the drawer"))
    assert robot.world.seed == 8
    assert robot.simulator_state() == later.simulator_state()
    robot.reset(first("2", "open the drawer"))  # the same task again: the same scene again
    assert robot.simulator_state() == later.simulator_state()
    robot.close()
    later.close()


def test_later_stages_keep_the_scene_as_it_is() -> None:
    robot = sim()
    robot.reset(first("1", "open the drawer", "close the drawer"))
    world = robot.world
    robot.begin_stage("open the drawer")
    while not robot.world.expert_done():
        act(robot, *robot.world.expert_action())
    verdict = robot.verdict()
    assert verdict.success
    assert verdict.success_once
    robot.reset(ResetRequest("1", "close the drawer", new_scene=False))
    assert robot.world is world
    assert robot.verdict().success  # the drawer stayed open
    robot.begin_stage("close the drawer")
    assert not robot.verdict().success
    robot.close()


def test_every_action_of_the_expert_passes_the_gate() -> None:
    robot = sim()
    gate = ActionGate(make_spec(), robot.limits)
    for tasks in (COFFEE[:1], ("open the door",), ("open the faucet",), ("open the window",)):
        robot.reset(first(tasks[0], *tasks))
        for _ in range(15):
            displacement, closed = robot.world.expert_action()
            planned = PlannedAction(np.asarray(displacement, np.float32), float(closed), 1, 0)
            robot.apply(gate.admit(planned, robot.observe().ee_position_m))
    robot.close()


def test_an_unknown_task_keeps_the_scene_and_has_no_verdict() -> None:
    robot = sim(scene="faucet")
    robot.reset(first("1", "wave hello"))
    assert robot.world.scene == "faucet"
    robot.begin_stage("wave hello")
    assert robot.verdict() is None
    robot.close()


def test_a_stage_in_a_restarted_client_gets_a_new_scene() -> None:
    robot = sim()
    robot.reset(ResetRequest("1", "close the drawer", new_scene=False))
    assert robot.world.stage == "drawer-close"
    robot.close()


def test_it_observes_image_position_and_gripper() -> None:
    robot = sim()
    robot.reset(first("1", "open the drawer"))
    seen = robot.observe()
    assert seen.frame.size == 224
    assert robot.limits.workspace.contains(np.array(seen.ee_position_m))
    assert seen.gripper_opening > 0.5
    robot.close()


def test_a_stopped_world_stands_still_until_the_reset() -> None:
    robot = sim()
    robot.reset(first("1", "open the drawer"))
    before = robot.simulator_state()
    robot.stop("button")
    act(robot, [0.05, 0, 0], False)
    robot.hold()
    assert robot.simulator_state() == before
    robot.reset(ResetRequest("1", "open the drawer", new_scene=False))
    act(robot, [0.05, 0, 0], False)
    assert robot.simulator_state() != before
    robot.close()


def test_an_unknown_scene_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DriverError, match=r"unknown scene 'kitchen'; known: coffee, drawer"):
        sim(scene="kitchen")
