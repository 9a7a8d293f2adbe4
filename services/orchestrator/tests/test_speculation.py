"""The next stage's video begun early: used only where the scene turns out the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gen2act_contracts import frames
from gen2act_contracts.errors import GenerationFailed
from gen2act_contracts.frames import Frame
from gen2act_contracts.pb import common, videogen
from gen2act_orchestrator.adapters.likeness import PictureLikeness
from gen2act_orchestrator.domain.foresight import Foresight
from gen2act_orchestrator.service.values import Scene
from gen2act_orchestrator.testing import FakeRobot
from gen2act_orchestrator.testing.robot import picture
from gen2act_servicekit.testing import eventually

if TYPE_CHECKING:
    from conftest import Replica, World

STAGES = ["open the drawer", "close the drawer"]


@pytest.fixture
async def foreseeing(world: World) -> AsyncIterator[Replica]:
    world.run = replace(world.run, foresight=Foresight(enabled=True))
    async with world.replica() as running:
        yield running


def same(_tick: int) -> common.Image:
    """What a robot sees whose arm is never in the picture."""
    return picture()


def asked_for_the_second(world: World) -> list[videogen.GenerateRequest]:
    return [request for request in world.videogen.requests if request.task == STAGES[1]]


async def speculated(replica: Replica, task_id: str) -> list[dict[str, Any]]:
    events = await replica.events(task_id)
    return [json.loads(data)["data"] for _, kind, data in events if kind == "video.speculated"]


async def test_a_guess_is_used_where_the_scene_is_still_the_same(
    world: World, foreseeing: Replica
) -> None:
    async with FakeRobot(foreseeing.gateway, sees=same).attach():
        task_id = await foreseeing.submit(stages=STAGES)
        task = await foreseeing.until(task_id, "succeeded")
    (request,) = asked_for_the_second(world)
    assert request.scene.image.data == picture().data
    assert request.scene.simulator_state == b""  # from a tick, before the reset
    assert task["stages"][1]["video"]["id"] in world.policy.prepared
    assert [event["used"] for event in await speculated(foreseeing, task_id)] == [True]


async def test_a_guess_is_thrown_away_where_the_scene_changed(
    world: World, foreseeing: Replica
) -> None:
    async with FakeRobot(foreseeing.gateway).attach() as robot:
        robot.ticking.clear()
        task_id = await foreseeing.submit(stages=STAGES)
        await foreseeing.until_stage(task_id, 0, "rolling_out")
        world.videogen.gate.clear()
        robot.ticking.set()
        await eventually(lambda: len(asked_for_the_second(world)) == 2, what="both requests")
        world.videogen.gate.set()
        await foreseeing.until(task_id, "succeeded")
    early, real = asked_for_the_second(world)
    assert early.scene.simulator_state == b""
    assert real.scene.simulator_state == b"state"
    assert early.seed == real.seed
    assert world.videogen.cancelled == 1
    (event,) = await speculated(foreseeing, task_id)
    assert event["used"] is False
    assert event["changed"] == 1.0


async def test_a_guess_that_fails_costs_nothing(world: World, foreseeing: Replica) -> None:
    async with FakeRobot(foreseeing.gateway, sees=same).attach() as robot:
        robot.ticking.clear()
        task_id = await foreseeing.submit(stages=STAGES)
        await foreseeing.until_stage(task_id, 0, "rolling_out")
        world.videogen.failures.append(GenerationFailed("no luck"))
        robot.ticking.set()
        task = await foreseeing.until(task_id, "succeeded")
    assert len(asked_for_the_second(world)) == 2
    assert task["stages"][1]["attempts"] == 1
    (event,) = await speculated(foreseeing, task_id)
    assert (event["used"], event["reason"]) == (False, "GENERATION_FAILED")


async def test_a_flickering_policy_costs_one_guess(world: World, foreseeing: Replica) -> None:
    class Flickering(FakeRobot):
        def terminates(self, tick: int) -> float:
            return 0.9 if tick % 2 else 0.1

    async with Flickering(foreseeing.gateway, sees=same).attach():
        task_id = await foreseeing.submit(stages=STAGES, max_ticks=20)
        await foreseeing.until(task_id, "failed")  # by its tick budget
    assert len(asked_for_the_second(world)) == 1


async def test_a_guess_ends_with_its_task(world: World, foreseeing: Replica) -> None:
    async with FakeRobot(foreseeing.gateway, sees=same).attach() as robot:
        robot.ticking.clear()
        task_id = await foreseeing.submit(stages=STAGES)
        await foreseeing.until_stage(task_id, 0, "rolling_out")
        world.videogen.gate.clear()
        robot.ticking.set()
        await eventually(lambda: len(asked_for_the_second(world)) == 1, what="the guess")
        await foreseeing.http.post(f"/tasks/{task_id}/cancel")
        await foreseeing.until(task_id, "cancelled")
        await eventually(lambda: world.videogen.cancelled == 1, what="the guess to be dropped")


async def test_nothing_is_guessed_unless_asked_for(world: World, replica: Replica) -> None:
    async with FakeRobot(replica.gateway, sees=same).attach():
        task_id = await replica.submit(stages=STAGES)
        await replica.until(task_id, "succeeded")
    assert len(world.videogen.requests) == 2
    assert await speculated(replica, task_id) == []


def scene(pixels: Any) -> Scene:
    image = frames.encode_jpeg(Frame(pixels))
    return Scene(common.SceneFrame(image=image), image.data)


async def test_likeness_ignores_noise_and_sees_a_small_object() -> None:
    rng = np.random.default_rng(0)
    table = np.full((224, 224, 3), 120, np.int16)
    noisy = np.clip(table + rng.normal(0, 6, table.shape), 0, 255).astype(np.uint8)
    moved = table.astype(np.uint8)
    moved[100:124, 100:124] = 240  # a mug: a hundredth of the picture
    likeness, foresight = PictureLikeness(), Foresight()
    before = scene(table.astype(np.uint8))
    assert foresight.still_holds(await likeness.changed(before, scene(noisy)))
    changed = await likeness.changed(before, scene(moved))
    assert changed == pytest.approx(24 * 24 / 224**2, rel=0.2)
    assert not foresight.still_holds(changed)
