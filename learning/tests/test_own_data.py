"""A dataset that lerobot wrote: described, imagined, trained on, mixed with ours."""

import asyncio
import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gen2act_contracts import pb
from gen2act_contracts.errors import PeerUnavailable, VideoRejected
from gen2act_learning.config import TrainConfig
from gen2act_learning.data import cli
from gen2act_learning.data.dataset import Dataset
from gen2act_learning.data.describe import parse_bounds
from gen2act_learning.data.errors import DatasetError
from gen2act_learning.data.imagine import POINTS, imagine
from gen2act_learning.data.mixture import open_mixture, parse_source
from gen2act_learning.data.recorder import Recorder, prepare
from gen2act_learning.export import load_policy
from gen2act_learning.trackers import OpticalFlow
from gen2act_learning.trainer import Trainer
from gen2act_learning.video_service import ImaginedVideo
from gen2act_servicekit import GrpcService
from gen2act_servicekit.redis import connect
from gen2act_servicekit.testing import LocalRedis
from gen2act_videogen.admission import Admission
from gen2act_videogen.generation import Generator
from gen2act_videogen.making import Maker
from gen2act_videogen.servicer import VideoGenerationServicer
from gen2act_videogen.settings import VideogenSettings
from gen2act_videogen.store import RedisVideoStore
from gen2act_videogen.testing import ScriptedBackend

LEROBOT_WRITTEN = Path(__file__).parent / "fixtures" / "lerobot_written"
OPTIONS = ("--camera", "observation.images.top", "--action", "ee_dx,ee_dy,ee_dz")
GRIPPER = ("--gripper", "gripper<0.5")
STATE = ("--state", "x,y,z", "--opening", "grip")


@pytest.fixture
def raw(tmp_path) -> Path:
    shutil.copytree(LEROBOT_WRITTEN, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def call(monkeypatch):
    """Runs `gen2act-data`; returns its exit status or message."""

    def run(*arguments: object) -> object:
        monkeypatch.setattr(sys, "argv", ["gen2act-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    return run


class Imagined:
    """A service that moves the scene sideways; refuses, or breaks down, where a test says."""

    def __init__(self, refuses: tuple[int, ...] = (), breaks_at: int | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.refuses = refuses
        self.breaks_at = breaks_at

    def generate(self, backend, task, scene, seed):
        self.asked.append((task, seed))
        if seed == self.breaks_at:
            raise PeerUnavailable("gone")
        if seed in self.refuses:
            raise VideoRejected("static")
        frames = np.stack([np.roll(scene, 2 * t, axis=1) for t in range(16)])
        return ImaginedVideo(frames, 8.0, "scripted", "scripted/1")


@pytest.fixture
def mine(raw, call) -> Path:
    assert call("describe", "--dataset", raw, *OPTIONS, *GRIPPER, *STATE) == 0
    return raw


@pytest.fixture
def imagined(mine) -> Path:
    imagine(Dataset(mine, side=64), Imagined(), OpticalFlow())
    return mine


def test_describing_finds_bounds_and_says_what_it_understood(capsys, mine):
    dataset = Dataset(mine)
    described = dataset.description
    moved = np.concatenate([dataset.actions(row) for row in dataset.rows])
    for (low, high), column in zip(described.bounds, moved.T, strict=True):
        assert low < np.quantile(column, 0.01) and high > np.quantile(column, 0.99)
        assert high - low < 1.4 * np.ptp(column) + 2e-3
    assert described.opening_range == (0.0, 1.0)
    said = capsys.readouterr().out
    assert "3 episodes, 20 control periods" in said and "ee_dx" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*OPTIONS[2:], *GRIPPER), "choose one with --camera"),
        ((*OPTIONS[:2], "--action", "x,y,z", *GRIPPER), "unknown action 'x'"),
        ((*OPTIONS, *GRIPPER, "--bounds", "0.1,0.2"), "2 bounds for 3 actions"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(raw, call, arguments, words):
    assert words in str(call("describe", "--dataset", raw, *arguments))
    assert not (raw / "gen2act.json").exists()


def test_bounds_are_read_as_one_or_one_each():
    assert parse_bounds("0.05", 2) == ((-0.05, 0.05), (-0.05, 0.05))
    assert parse_bounds("-0.1:0.2,0:1", 2) == ((-0.1, 0.2), (0.0, 1.0))
    with pytest.raises(DatasetError, match=r"expected e\.g\."):
        parse_bounds("wide", 1)


def test_imagining_fills_in_every_episode_and_goes_on_where_it_stopped(mine):
    first = Imagined(breaks_at=1)
    with pytest.raises(PeerUnavailable):
        imagine(Dataset(mine, side=64), first, OpticalFlow())
    second = Imagined()
    outcome = imagine(Dataset(mine, side=64), second, OpticalFlow())
    assert (outcome.there, outcome.made, outcome.refused) == (1, 2, {})
    assert second.asked == [("push the cube away", 1), ("put the cube in the bowl", 2)]
    dataset = Dataset(mine, side=64)
    dataset.check()
    episode = dataset.load(1)
    assert episode.video.shape == (16, 64, 64, 3)
    assert episode.tracks.shape == (POINTS, 16, 2) and episode.robot_tracks.shape[1] == 9
    assert np.isnan(episode.landmarks_m).all() and np.isnan(episode.hand_position_m).all()
    assert np.isfinite(episode.ee_position_m).all()


def test_a_refused_episode_does_not_stop_the_others(mine):
    outcome = imagine(Dataset(mine, side=64), Imagined(refuses=(1,)), OpticalFlow())
    assert outcome.made == 2 and outcome.refused == {1: "static"}
    with pytest.raises(DatasetError, match=r"1 of 3 episodes have no human video \(first: 1\)"):
        Dataset(mine).check()


def test_nobody_answering_is_said_in_one_line(mine, call):
    ended = call("imagine", "--dataset", mine, "--videogen", "127.0.0.1:1")
    assert str(ended).startswith("gen2act-data: ")


# ---- the real video service ----------------------------------------------------------------------


@pytest.fixture
def videogen(tmp_path) -> Iterator[tuple[str, str]]:
    """Address and Redis URL of a videogen service in this process, with a scripted backend."""
    started, done = threading.Event(), threading.Event()
    address: list[str] = []

    async def serve(url: str) -> None:
        redis = connect(url)
        backend = ScriptedBackend()
        maker = Maker(
            RedisVideoStore(redis, 3600), Admission(running=1, waiting=4), max_generation_s=100.0
        )
        generator = Generator([backend], (backend.name,), maker)
        settings = VideogenSettings(port=0, metrics_port=0, redis_url=url, drain_s=0.1)
        service = GrpcService.from_settings("videogen", settings)
        service.add(
            pb.videogen_grpc.add_VideoGenerationServicer_to_server,
            VideoGenerationServicer(generator, service.refuse_while_draining),
            pb.videogen.DESCRIPTOR.services_by_name["VideoGeneration"],
        )
        await service.start()
        address.append(service.address)
        started.set()
        await asyncio.to_thread(done.wait)
        await service.stop()
        await generator.close()
        await redis.aclose()

    (tmp_path / "redis").mkdir()
    with LocalRedis(tmp_path / "redis") as server, contextlib.ExitStack() as stack:
        thread = threading.Thread(target=lambda: asyncio.run(serve(server.url)))
        thread.start()
        stack.callback(thread.join)
        stack.callback(done.set)
        assert started.wait(60)
        yield address[0], server.url


def test_the_command_asks_the_real_service(mine, videogen, call, capsys):
    address, redis = videogen
    assert call("imagine", "--dataset", mine, "--videogen", address, "--redis", redis) == 0
    assert "3/3 episodes have a human video" in capsys.readouterr().out
    dataset = Dataset(mine)
    dataset.check()
    first = dataset.load(0)
    shown, scene = first.video[0].astype(int), dataset.first_frame(0)
    assert np.abs(shown - scene).mean() < 6  # the video begins in the robot's scene
    assert np.abs(first.video[-1].astype(int) - scene).max() > 60  # and something moves in it


# ---- training ------------------------------------------------------------------------------------


def test_training_and_export_take_names_and_bounds_from_the_data(imagined, small, tmp_path):
    config = TrainConfig(
        data=(str(imagined),),
        out=str(tmp_path / "run"),
        minutes=5,
        steps=2,
        episodes_per_step=2,
        times_per_episode=2,
        model=small,
        device="cpu",
        threads=1,
    )
    trainer = Trainer(config)
    trainer.run()
    assert all(np.isfinite(p.detach().numpy()).all() for p in trainer.policy.parameters())
    spec = load_policy(tmp_path / "run").spec
    assert [d.name for d in spec.dimensions] == ["ee_dx", "ee_dy", "ee_dz"]
    bounds = Dataset(imagined).description.bounds
    assert [(d.low, d.high) for d in spec.dimensions] == [tuple(b) for b in bounds]


def test_data_without_state_are_refused_for_a_policy_that_wants_it(raw, call, small, tmp_path):
    assert call("describe", "--dataset", raw, *OPTIONS, *GRIPPER) == 0
    imagine(Dataset(raw, side=64), Imagined(), OpticalFlow())
    config = TrainConfig(data=(str(raw),), out=str(tmp_path / "run"), model=small, device="cpu")
    with pytest.raises(DatasetError, match="--no-proprioception"):
        Trainer(config)
    blind = replace(small, proprioception=False)
    Trainer(replace(config, model=blind, episodes_per_step=3))


# ---- mixtures ------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path, make_episode) -> Path:
    with Recorder(tmp_path / "ours") as recorder:
        for seed in range(5):
            recorder.add(prepare(make_episode(seed=seed, frames=16), f"e{seed}"))
    return tmp_path / "ours"


def test_weights_are_shares_of_what_is_drawn(ours, imagined, call):
    call(
        *("describe", "--dataset", imagined, *OPTIONS, *GRIPPER, *STATE),
        *("--called", "dx,dy,dz", "--bounds", "0.05"),
    )
    mixed = open_mixture([f"{ours}:3", f"{imagined}:1"], 64)
    roots = np.array([ref.dataset.root.name for ref in mixed.episodes])
    assert mixed.chances is not None
    assert mixed.chances[roots == "ours"].sum() == pytest.approx(0.75)
    assert len(set(mixed.chances[roots == "mine"])) == 1
    assert open_mixture([str(ours), str(imagined)], 64).chances is None


def test_datasets_whose_actions_differ_are_not_mixed(ours, imagined):
    with pytest.raises(DatasetError, match="action dimensions differ") as caught:
        open_mixture([str(ours), str(imagined)], 64)
    assert "ee_dx" in str(caught.value) and "--called" in str(caught.value)


def test_a_weight_is_a_positive_number_given_to_all_or_none(ours):
    assert parse_source("a/b") == (Path("a/b"), None)
    assert parse_source("a/b:0.5") == (Path("a/b"), 0.5)
    for wrong in ("a:x", "a:0", "a:-1", "a:inf"):
        with pytest.raises(DatasetError, match="FOLDER:WEIGHT"):
            parse_source(wrong)
    with pytest.raises(DatasetError, match="every folder a weight"):
        open_mixture([f"{ours}:2", str(ours)], 64)
