"""The world: determinism, states, chains, refusals."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from gen2act_sim import (
    ACTIVITIES,
    SCENES,
    TASKS,
    InvalidAction,
    InvalidState,
    UnknownTask,
    World,
    robot_demo,
)


def run_expert(world: World, task: str, ticks: int = 40) -> None:
    world.begin_stage(task)
    for _ in range(ticks):
        if world.expert_done():
            return
        world.step(*world.expert_action())


@pytest.mark.parametrize("scene", SCENES)
def test_same_seed_and_actions_give_identical_states(scene: str) -> None:
    actions = np.random.default_rng(0).uniform(-0.05, 0.05, (6, 3))
    states = []
    for _ in range(2):
        world = World(scene, 11)
        for i, action in enumerate(actions):
            world.step(action, float(i > 3))
        states.append(world.get_state())
    assert states[0] == states[1]


def test_looking_and_asking_the_expert_change_nothing() -> None:
    world, other = World("drawer", 4), World("drawer", 4)
    for _ in range(4):
        world.observe()
        world.expert_action()
        for each in (world, other):
            each.step([0.01, 0.03, -0.02], 0.0)
    assert world.get_state() == other.get_state()


def test_another_process_that_made_other_worlds_first_gets_the_same_state() -> None:
    script = (
        "import hashlib; from gen2act_sim import World; World('coffee', 3);"
        "w = World('coffee', 11); w.step([0.01, 0.05, -0.05], 0.0);"
        "print(hashlib.sha256(w.get_state()).hexdigest())"
    )
    run = [sys.executable, "-c", script]
    theirs = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout
    world = World("coffee", 11)
    world.step([0.01, 0.05, -0.05], 0.0)
    assert theirs.strip() == hashlib.sha256(world.get_state()).hexdigest()


def test_each_thread_may_use_its_own_world() -> None:
    expected = World("faucet", 2).observe().image
    seen: list[object] = []
    threads = [
        threading.Thread(target=lambda: seen.append(World("faucet", 2).observe().image))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(seen) == 2
    for image in seen:
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("scene", SCENES)
def test_seeds_differ(scene: str) -> None:
    assert World(scene, 1).get_state() != World(scene, 2).get_state()


def test_state_round_trip_continues_identically() -> None:
    world = World("coffee", 5)
    for _ in range(5):
        world.step(*world.expert_action())
    state = world.get_state()
    copy = World.from_state(state)
    assert copy.get_state() == state
    for each in (world, copy):
        for _ in range(5):
            each.step(*each.expert_action())
    assert copy.get_state() == world.get_state()
    np.testing.assert_array_equal(copy.observe().image, world.observe().image)


def broken_states() -> list[bytes]:
    good = json.loads(World("faucet", 0).get_state())

    def changed(**fields: object) -> bytes:
        return json.dumps({**good, **fields}).encode()

    return [
        b"",
        b"\x80\x04\x95pickle",
        b"[1, 2]",
        b"[" * 10_000,
        b" " * 20_000,
        json.dumps(good).encode()[:-20],
        changed(version=99),
        changed(scene="kitchen"),
        changed(scene=["faucet"]),
        changed(seed="1"),
        changed(fixture_m=[0.0, 0.0]),
        changed(fixture_m=[0.0, float("nan"), 0.0]),
        changed(vector=good["vector"][:-1]),
        changed(vector=[True] * len(good["vector"])),
        changed(vector=[1e300] * len(good["vector"])),
        changed(stage={"task": "coffee-push", "reference_q": 0.0, "success_once": False}),
        changed(stage={"task": [], "reference_q": 0.0, "success_once": False}),
    ]


@pytest.mark.parametrize("index", range(17))
def test_corrupt_state_is_refused_with_a_typed_error(index: int) -> None:
    with pytest.raises(InvalidState):
        World.from_state(broken_states()[index])


def test_state_of_another_scene_is_refused_and_changes_nothing() -> None:
    world = World("door", 1)
    before = world.get_state()
    with pytest.raises(InvalidState, match="faucet"):
        world.set_state(World("faucet", 1).get_state())
    assert world.get_state() == before


@pytest.mark.parametrize("bad", [[0.0, 0.0], [0.0, 0.0, float("nan")], [float("inf"), 0.0, 0.0]])
def test_bad_action_is_refused(bad: list[float]) -> None:
    world = World("door", 1)
    before = world.get_state()
    with pytest.raises(InvalidAction):
        world.step(bad, 0.0)
    assert world.get_state() == before


def test_huge_action_moves_at_most_five_centimetres() -> None:
    world, other = World("door", 1), World("door", 1)
    world.step([9.0, 0.0, 0.0], 0.0)
    other.step([0.05, 0.0, 0.0], 0.0)
    assert world.get_state() == other.get_state()


def test_unknown_scene_and_task_name_what_is_known() -> None:
    with pytest.raises(UnknownTask, match="coffee"):
        World("kitchen", 0)
    with pytest.raises(UnknownTask, match="drawer-open"):
        World("drawer", 0).begin_stage("coffee-push")


@pytest.mark.parametrize("scene", SCENES)
def test_chain_without_reset_succeeds_by_the_simulators_verdict(scene: str) -> None:
    world = World(scene, 21)
    for stage, task in enumerate(SCENES[scene]):
        if stage:
            world.go_to_reset_pose()
        world.begin_stage(task)
        assert not world.success(), f"{task} must not succeed before anything was done"
        run_expert(world, task)
        assert world.success()
        assert world.success_once


@pytest.mark.parametrize("task", TASKS)
def test_start_state_suits_its_task_and_is_not_yet_success(task: str) -> None:
    world = World(TASKS[task].scene, 33)
    world.reset(task)
    assert world.stage == task
    assert not world.success()
    for _ in range(5):
        world.hold()
    assert not world.success(), "the state must hold by itself"


def test_going_to_the_reset_pose_keeps_the_mug_and_reaches_the_pose() -> None:
    world = World("coffee", 8)
    rest = world.kin.hand_m
    run_expert(world, "coffee-push")
    mug = world.kin.object_m
    world.go_to_reset_pose()
    assert np.linalg.norm(world.kin.object_m - mug) < 0.03
    assert np.linalg.norm(world.kin.hand_m - rest) < 0.02
    assert world.observe().gripper_opening > 0.95


def test_a_mug_that_was_never_at_the_machine_cannot_be_pulled_away_from_it() -> None:
    world = World("coffee", 8)
    mug = world.kin.object_qpos
    assert mug is not None
    world.physics.data.qpos[mug : mug + 3] = world.variation.pull_goal_m
    world.physics.forward()
    world.begin_stage("coffee-pull")
    world.hold()
    assert not world.success()
    assert not world.success_once


@pytest.mark.parametrize(
    ("scene", "task"),
    [("basketball", "basketball"), ("shelf", "shelf-place"), ("hammer", "hammer")],
)
def test_a_held_thing_is_let_go_on_the_way_to_the_reset_pose(scene: str, task: str) -> None:
    world = World(scene, 8)
    rest = world.kin.hand_m
    run_expert(world, task)
    world.go_to_reset_pose()
    assert np.linalg.norm(world.kin.hand_m - rest) < 0.02
    assert np.linalg.norm(world.kin.object_m - world.kin.tool_m) > 0.1


def test_replaying_the_experts_actions_succeeds() -> None:
    world = World("window", 9)
    start = world.get_state()
    episode = robot_demo(world, "window-open", 9, noise=0.0)
    again = World.from_state(start)
    again.begin_stage("window-open")
    for delta, closed in zip(episode.actions_m, episode.gripper_closed, strict=True):
        again.step(delta, closed)
    assert again.success()


def test_activities_are_chains_of_one_scene() -> None:
    for tasks in ACTIVITIES.values():
        assert len({TASKS[task].scene for task in tasks}) == 1
