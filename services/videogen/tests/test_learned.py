"""The learned backend with the shipped bundle: what it shows, what it refuses, what it is given."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from gen2act_contracts import pb
from gen2act_contracts.errors import (
    BundleInvalid,
    GenerationCancelled,
    UnsupportedInstruction,
)
from gen2act_contracts.frames import Frame, encode_jpeg, resize
from gen2act_contracts.rpc import from_rpc_error
from gen2act_servicekit.grpc_client import channel
from gen2act_servicekit.testing import LocalRedis, eventually
from gen2act_videogen import gate
from gen2act_videogen.admission import Admission
from gen2act_videogen.backend import Availability, BackendVideo, VideoRequest
from gen2act_videogen.backends.learned import LearnedBackend
from gen2act_videogen.generation import Generator
from gen2act_videogen.imagination import Imagination, Progress
from gen2act_videogen.making import Maker
from gen2act_videogen.service import start
from gen2act_videogen.settings import VideogenSettings
from gen2act_videogen.testing import MemoryVideoStore, moving_video

pytest.importorskip("onnxruntime", reason="the learned backend needs it")
gen2act_sim = pytest.importorskip("gen2act_sim", reason="the simulator draws the test pictures")

BUNDLE = Path(__file__).parents[3] / "models" / "imagination"
U8 = npt.NDArray[np.uint8]


def picture(scene: str = "drawer", task: str = "drawer-close") -> U8:
    world = gen2act_sim.World(scene, 17)
    world.reset(task)
    image: U8 = world.observe().image
    world.close()
    return image


@pytest.fixture(scope="module")
def drawer() -> U8:
    return picture()


@pytest.fixture(scope="module")
def model() -> Imagination:
    return Imagination(BUNDLE, threads=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[LearnedBackend]:
    backend = LearnedBackend(BUNDLE, threads=1)
    assert not backend.availability().available
    await backend.start()
    await eventually(lambda: backend.availability().available, deadline_s=60, what="loaded")
    yield backend
    await backend.close()
    assert not backend.availability().available


def a_request(scene: U8, task: str = "close the drawer", seed: int = 0) -> VideoRequest:
    return VideoRequest(task, f"A person: {task}, static camera", Frame(scene), "0" * 64, seed)


def unheard(_: Progress) -> None:
    pass


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("shut the drawer", "close the drawer"),
        ("close the green drawer", "close the drawer"),
        ("the drawer, please, close it", "close the drawer"),
        ("A person closing the drawer, static camera", "close the drawer"),
        ("could you turn off the tap", "close the faucet"),
        ("slide that window open", "open the window"),
        ("take the cup away from the coffee machine", "pull the mug away from the coffee machine"),
    ],
)
def test_other_words_for_a_task_are_understood(model: Imagination, said: str, meant: str) -> None:
    assert model.instructions[model.read(said).argmax()] == meant


@pytest.mark.parametrize(
    "said",
    [
        "open the fridge",
        "throw the mug at the window",
        "do not open the drawer",
        "open the drawer and close the door",
        "press the drawer",
        "qwertz",
        "",
    ],
)
def test_what_it_cannot_show_is_refused_with_what_it_can(model: Imagination, said: str) -> None:
    with pytest.raises(UnsupportedInstruction, match='"open the drawer"'):
        model.read(said)


def test_the_picture_tells_which_button_is_meant(model: Imagination) -> None:
    told: list[Progress] = []
    for scene, task in (("coffee", "coffee-button"), ("button", "button-press")):
        model.imagine("push the button", picture(scene, task), 0, 16, told.append)
    assert len(told) == 34
    with pytest.raises(UnsupportedInstruction, match="in this picture"):
        model.imagine("push the button", picture(), 0, 16, unheard)


def test_a_task_whose_object_is_not_in_the_picture_is_refused(
    model: Imagination, drawer: U8
) -> None:
    with pytest.raises(UnsupportedInstruction, match="in this picture"):
        model.imagine("open the window", drawer, 0, 16, unheard)


@pytest.mark.parametrize("kind", ["grey", "noise", "on its head", "too near"])
def test_a_picture_that_is_no_scene_is_refused(model: Imagination, drawer: U8, kind: str) -> None:
    strange = {
        "grey": np.full_like(drawer, 128),
        "noise": np.random.default_rng(0).integers(0, 256, drawer.shape, np.uint8),
        "on its head": np.ascontiguousarray(drawer[::-1]),
        "too near": np.ascontiguousarray(drawer[60:160, 60:160]),
    }[kind]
    for instruction in model.instructions:
        with pytest.raises(UnsupportedInstruction, match="in this picture"):
            model.imagine(instruction, strange, 1, 2, lambda progress: None)


def test_a_hand_comes_and_the_drawer_closes_in_an_unmoved_scene(
    model: Imagination, drawer: U8
) -> None:
    video = model.imagine("close the drawer", drawer, 4, 16, unheard)
    assert video.shape == (16, 224, 224, 3)
    assert gate.check(video, drawer, starts_at_scene=True).motion > 0.1
    # Away from arm, hand and drawer the scene stays as it is.
    assert np.abs(video[:, 180:].astype(int) - drawer[180:]).mean() < 4
    world = gen2act_sim.World("drawer", 17)
    world.reset("drawer-close")
    state = world.get_state()
    world.close()
    shown = gen2act_sim.human_video(state, "drawer-close", 4).frames[-1]
    place = (slice(90, 175), slice(60, 200))  # drawer and its surroundings
    before, after = drawer[place].astype(int), shown[place].astype(int)
    static = np.abs(before - after).mean()
    assert np.abs(video[-1][place].astype(int) - after).mean() < 0.6 * static


def test_the_seed_decides_the_video(model: Imagination, drawer: U8) -> None:
    first, again, other = (
        model.imagine("close the drawer", drawer, seed, 16, unheard) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 1


@pytest.mark.parametrize("side", [96, 517])
def test_a_photo_of_another_size_gives_the_same_video(
    model: Imagination, drawer: U8, side: int
) -> None:
    photo = resize(Frame(drawer), side).pixels
    video = model.imagine("close the drawer", photo, 1, 16, unheard)
    assert video.shape == (16, 224, 224, 3)
    usual = model.imagine("close the drawer", drawer, 1, 16, unheard)
    assert np.abs(video.astype(int) - usual).mean() < 8


async def test_no_simulator_state_reaches_the_model(drawer: U8) -> None:
    seen: list[VideoRequest] = []

    class Watched(LearnedBackend):
        async def generate(self, request: VideoRequest, progress: object) -> BackendVideo:
            seen.append(request)
            return BackendVideo(moving_video(drawer), 5.0, self.model)

        def availability(self) -> Availability:
            return Availability(True)

    maker = Maker(MemoryVideoStore(), Admission(running=1, waiting=1), max_generation_s=10)
    generator = Generator([Watched(BUNDLE)], ["learned"], maker)
    request = VideoRequest(
        "close the drawer", "p", Frame(drawer), "0" * 64, 0, simulator_state=b"secret"
    )
    await generator.generate(request, "learned", lambda share, phase: None)
    await generator.close()
    assert [each.simulator_state for each in seen] == [b""]


def test_the_model_runs_without_the_simulator() -> None:
    """Nothing it imports knows the simulator, so it can only use the picture and the words."""
    code = (
        "import pathlib, sys; import gen2act_videogen.backends.learned\n"
        "from gen2act_videogen.imagination import Imagination\n"
        f"Imagination(pathlib.Path({str(BUNDLE)!r}), 1)\n"
        "sys.exit('gen2act_sim' in sys.modules or 'mujoco' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_the_backend_makes_a_video_and_tells_how_far_it_is(
    backend: LearnedBackend, drawer: U8
) -> None:
    told: list[float] = []
    made = await backend.generate(a_request(drawer), lambda share, phase: told.append(share))
    assert made.frames.shape == (16, 224, 224, 3)
    assert made.model == backend.model != "not loaded"
    assert told == sorted(told)
    assert len(told) == 17


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cancelled_generation_stops_between_frames(
    backend: LearnedBackend, drawer: U8
) -> None:
    begun = asyncio.Event()
    told: list[float] = []

    def progress(share: float, phase: str) -> None:
        told.append(share)
        begun.set()

    task = asyncio.create_task(backend.generate(a_request(drawer), progress))
    await begun.wait()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, GenerationCancelled)):
        await task
    assert len(told) < 17


def test_a_damaged_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"no video model at .*: manifest\.json"):
        Imagination(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(BUNDLE, copy)
    (copy / "frame.onnx").write_bytes(b"something else")
    with pytest.raises(BundleInvalid, match=r"frame\.onnx has sha256"):
        Imagination(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["graphs"]["plan"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleInvalid, match="lacks the graph 'plan'"):
        Imagination(copy)


async def test_a_missing_bundle_makes_the_backend_unavailable_with_the_reason(
    tmp_path: Path,
) -> None:
    backend = LearnedBackend(tmp_path)
    await backend.start()
    await eventually(
        lambda: "manifest.json" in backend.availability().reason, deadline_s=30, what="reason"
    )
    assert not backend.availability().available
    await backend.close()


async def test_the_service_answers_with_learned_videos(
    drawer: U8, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with LocalRedis(tmp_path_factory.mktemp("redis")) as redis:
        settings = VideogenSettings(
            port=0,
            metrics_port=0,
            redis_url=redis.url,
            drain_s=1,
            video_backends="learned",
            video_bundle=BUNDLE,
        )
        service = await start(settings)
        await eventually(lambda: service.ready, deadline_s=60, what="ready")
        async with channel(service.address) as connection:
            stub = pb.videogen_grpc.VideoGenerationStub(connection)
            scene = pb.common.SceneFrame(
                image=encode_jpeg(Frame(drawer)), simulator_state=b"not to be read"
            )
            request = pb.videogen.GenerateRequest(task="shut the drawer", scene=scene, seed=3)
            events = [event async for event in stub.Generate(request, timeout=60)]
            made = events[-1].result
            assert (made.frames, made.size, made.provenance.backend) == (16, 224, "learned")
            assert made.provenance.prompt == "A person shutting the drawer, static camera"
            request.task = "open the fridge"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stub.Generate(request, timeout=60):
                    pass
        error = from_rpc_error(caught.value)
        assert isinstance(error, UnsupportedInstruction)
        assert '"close the drawer"' in str(error)
        await service.stop()


def test_the_bundle_is_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 15e6
