"""The demonstrator backend over the real simulator, and the gate's bounds measured on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio

from gen2act_contracts.errors import BackendRequires, UnsupportedInstruction, VideoRejected
from gen2act_contracts.frames import Frame
from gen2act_videogen import gate
from gen2act_videogen.backend import VideoRequest
from gen2act_videogen.backends.demonstrator import DemonstratorBackend
from gen2act_videogen.prompt import video_prompt

gen2act_sim = pytest.importorskip("gen2act_sim", reason="the simulator is not installed")


def no_progress(fraction: float, phase: str) -> None:
    """For callers that do not look."""


def a_scene(scene: str = "drawer", seed: int = 3, task: str = "open the drawer") -> VideoRequest:
    world = gen2act_sim.World(scene, seed)
    world.reset(gen2act_sim.match_task(task, scene).id)
    request = VideoRequest(
        task=task,
        prompt=video_prompt(task),
        scene=Frame(world.observe().image),
        scene_sha256="0" * 64,
        seed=1,
        simulator_state=world.get_state(),
    )
    world.close()
    return request


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[DemonstratorBackend]:
    backend = DemonstratorBackend()
    await backend.start()
    yield backend
    await backend.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_task_gives_a_video_that_passes_the_gate(backend: DemonstratorBackend) -> None:
    for task in gen2act_sim.TASKS.values():
        request = a_scene(task.scene, 5, task.instruction)
        video = await backend.generate(request, no_progress)
        assert video.frames.shape == (16, 224, 224, 3)
        assert 1 < video.fps < 60
        report = gate.check(video.frames, request.scene.pixels, starts_at_scene=True)
        bounds = gate.DEFAULT_BOUNDS
        # Room on both sides of the bounds: the arm is in the scene and not in the video.
        assert report.first_frame_difference < 0.7 * bounds.max_first_frame_difference
        assert report.motion > 3 * bounds.min_motion


async def test_another_scene_s_video_is_refused(backend: DemonstratorBackend) -> None:
    # Of those that are an empty table but for small things one is enough; see the gate's table.
    small = {"basketball", "assembly"}
    scenes = {s: tasks[0] for s, tasks in gen2act_sim.SCENES.items() if s not in small}
    requests = {
        scene: a_scene(scene, 5, gen2act_sim.TASKS[task].instruction)
        for scene, task in scenes.items()
    }
    for scene, request in requests.items():
        video = await backend.generate(request, no_progress)
        for other in scenes.keys() - {scene}:
            with pytest.raises(VideoRejected, match="resemble"):
                gate.check(video.frames, requests[other].scene.pixels, starts_at_scene=True)


async def test_same_seed_same_video_other_seed_another(backend: DemonstratorBackend) -> None:
    request = a_scene()
    one = await backend.generate(request, no_progress)
    two = await backend.generate(request, no_progress)
    other = await backend.generate(replace(request, seed=2), no_progress)
    assert np.array_equal(one.frames, two.frames)
    assert not np.array_equal(one.frames, other.frames)


async def test_seeds_of_64_bits_are_accepted(backend: DemonstratorBackend) -> None:
    video = await backend.generate(replace(a_scene(), seed=2**64 - 1), no_progress)
    assert len(video.frames) == 16


async def test_paraphrases_and_whole_prompts_are_understood(backend: DemonstratorBackend) -> None:
    request = a_scene()
    for task in ("shut the drawer", "A person closing the drawer, static camera"):
        opened = replace(a_scene(task="close the drawer"), task=task)
        assert len((await backend.generate(opened, no_progress)).frames) == 16
    assert len((await backend.generate(request, no_progress)).frames) == 16


async def test_without_simulator_state_it_says_what_it_requires(
    backend: DemonstratorBackend,
) -> None:
    with pytest.raises(BackendRequires, match="simulator state"):
        await backend.generate(replace(a_scene(), simulator_state=b""), no_progress)


@pytest.mark.parametrize("damage", ["text", "cut", "huge", "bytes"])
async def test_a_corrupt_state_is_refused_and_the_worker_lives(
    backend: DemonstratorBackend, damage: str
) -> None:
    request = a_scene()
    state = {
        "text": b"hello",
        "cut": request.simulator_state[:100],
        "huge": b"[" * (2 << 20),
        "bytes": b"\xff\x00" * 50,
    }[damage]
    with pytest.raises(BackendRequires, match="state"):
        await backend.generate(replace(request, simulator_state=state), no_progress)
    assert backend.availability().available
    assert len((await backend.generate(request, no_progress)).frames) == 16


async def test_an_unknown_task_is_refused_with_the_scene_s_tasks(
    backend: DemonstratorBackend,
) -> None:
    request = replace(a_scene(), task="juggle three oranges")
    with pytest.raises(UnsupportedInstruction, match='"open the drawer", "close the drawer"'):
        await backend.generate(request, no_progress)


async def test_a_task_of_another_scene_is_refused(backend: DemonstratorBackend) -> None:
    request = replace(a_scene(), task="press the button of the coffee machine")
    with pytest.raises(UnsupportedInstruction, match="drawer"):
        await backend.generate(request, no_progress)


async def test_cancelling_in_the_middle_kills_the_rendering(backend: DemonstratorBackend) -> None:
    started = asyncio.Event()
    call = asyncio.create_task(backend.generate(a_scene(), lambda *_: started.set()))
    await started.wait()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert len((await backend.generate(a_scene(), no_progress)).frames) == 16


async def test_it_is_unavailable_until_it_is_warm_and_after_it_is_closed() -> None:
    cold = DemonstratorBackend()
    assert not cold.availability().available
    await cold.start()
    async with asyncio.timeout(60):
        while not cold.availability().available:
            await asyncio.sleep(0.02)
    await cold.close()
    assert not cold.availability().available
