import numpy as np
import pytest

from gen2act_learning.trackers import (
    OpticalFlow,
    SimulatorTruth,
    UnknownTracker,
    load_tracker,
    pick_points,
)
from gen2act_learning.trackers.measure import MOVED_PX, Stay, Video, compare
from gen2act_sim import Tracks as SimulatorTracks
from gen2act_sim import World, human_video

SIDE = 128


def texture(seed: int, side: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (side // 4, side // 4, 3), dtype=np.uint8)
    return noise.repeat(4, 0).repeat(4, 1)


def moving_square(frames: int = 10, step: int = 5) -> np.ndarray:
    """A textured square of 32 px that goes right over a textured ground, uint8 [N, S, S, 3]."""
    ground, square = texture(0, SIDE), texture(1, 32)
    video = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        video[t, 40:72, 10 + step * t : 42 + step * t] = square
    return video


def test_flow_follows_what_moves_and_leaves_what_stays():
    points = np.array([[26, 56], [20, 50], [100, 110], [64, 20]], np.float32) / SIDE
    found = OpticalFlow().track(moving_square(), points)
    want = np.repeat(points[:, None], 10, axis=1) * SIDE
    want[:2, :, 0] += 5 * np.arange(10)
    assert found.visible.all()
    assert np.abs(found.places * SIDE - want).max() < 0.7


def test_a_point_is_hidden_while_something_is_before_it_and_found_again():
    point = np.array([[60, 56]], np.float32) / SIDE  # ground, passed over by the square
    found = OpticalFlow().track(moving_square(frames=14), point)
    covered = [10 + 5 * t <= 60 - 2 and 42 + 5 * t > 60 + 2 for t in range(14)]
    assert any(covered) and not found.visible[0, covered].any()
    assert found.visible[0, 0] and found.visible[0, -1]
    assert np.abs(found.places[0, -1] - point[0]).max() * SIDE < 0.7


def test_a_point_on_a_blank_wall_stays():
    video = np.full((6, SIDE, SIDE, 3), 130, np.uint8)
    point = np.array([[0.5, 0.5]], np.float32)
    found = OpticalFlow().track(video, point)
    assert found.visible.all() and np.abs(found.places - 0.5).max() < 1e-6


def test_no_points_give_no_tracks():
    found = OpticalFlow().track(moving_square(), np.zeros((0, 2), np.float32))
    assert found.places.shape == (0, 10, 2) and found.visible.shape == (0, 10)


def test_half_of_the_picked_points_lie_where_the_video_changes():
    points = pick_points(moving_square(), 200, np.random.default_rng(0)) * SIDE
    assert points.shape == (200, 2) and (points >= 0).all() and (points < SIDE).all()
    changing = (points[:, 1] >= 40) & (points[:, 1] < 72)
    assert changing.sum() > 100


def test_flow_is_nearer_to_the_simulator_s_truth_than_standing_still():
    world = World("drawer", 3)
    world.reset("drawer-open")
    video = human_video(world.get_state(), "drawer-open", 7, points=32)
    known = SimulatorTracks(video.points0_px, video.tracks_px, video.visible)
    shown = [Video("human", video.frames, SimulatorTruth(known, video.frames.shape[1]))]
    flow, still = compare(OpticalFlow(), shown), compare(Stay(), shown)
    assert still.error_px[still.moved].max() > MOVED_PX
    used, all_of_it = flow.truly & flow.said, still.truly & still.said
    assert flow.error_px[used].mean() < 0.5 * still.error_px[all_of_it].mean()


def test_truth_refuses_points_that_the_simulator_did_not_follow():
    known = SimulatorTracks(
        np.array([[5, 6]], np.float32), np.zeros((1, 3, 2), np.float32), np.ones((1, 3), bool)
    )
    truth = SimulatorTruth(known, 64)
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    assert truth.track(frames, truth.points).places.shape == (1, 3, 2)
    with pytest.raises(ValueError, match="did not follow"):
        truth.track(frames, truth.points + 0.5)
    with pytest.raises(ValueError, match="followed 3"):
        truth.track(frames[:2], truth.points)


def test_a_tracker_of_one_s_own_is_loaded_by_name(monkeypatch, tmp_path):
    (tmp_path / "mine_of_today.py").write_text(
        "class T:\n    def track(self, frames, points):\n        return 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_tracker("mine_of_today:T").track(None, None) == "mine"  # type: ignore[arg-type]
    assert isinstance(load_tracker("flow"), OpticalFlow)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tapir", "'flow' or 'module:Class'"),
        ("no_such_module:T", "cannot be loaded"),
        ("json:T", "cannot be loaded"),
        ("collections:OrderedDict", "no method track"),
    ],
)
def test_a_tracker_that_is_none_is_named(name, words):
    with pytest.raises(UnknownTracker, match=words):
        load_tracker(name)
