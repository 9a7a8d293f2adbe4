"""Robot episodes, human videos and their ground-truth tracks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gen2act_sim import TASKS, DemonstrationFailed, UnknownTask, World, human_video, robot_demo
from gen2act_sim.rendering import project, renderer_for, unproject


def start(task: str, scene: str, seed: int) -> tuple[World, bytes]:
    world = World(scene, seed)
    world.reset(task)
    return world, world.get_state()


def test_robot_episode_is_aligned_bounded_and_ends_with_terminate() -> None:
    world, _ = start("drawer-open", "drawer", 3)
    episode = robot_demo(world, "drawer-open", 3, noise=0.01)
    ticks = len(episode.images)
    assert episode.success
    assert episode.images.shape == (ticks, 224, 224, 3)
    assert episode.actions_m.shape == episode.ee_position_m.shape == (ticks, 3)
    assert np.abs(episode.actions_m).max() <= 0.05
    assert set(np.unique(episode.gripper_closed)) <= {0.0, 1.0}
    assert ticks <= 30
    assert episode.terminate[-4:].all()
    assert not episode.terminate[:5].any()
    assert np.abs(episode.actions_m[episode.terminate]).max() == 0.0


def test_noise_disturbs_execution_and_not_the_first_label() -> None:
    episodes = []
    for noise in (0.0, 0.02):
        world, _ = start("faucet-open", "faucet", 3)
        episodes.append(robot_demo(world, "faucet-open", 3, noise=noise))
    clean, noisy = episodes
    np.testing.assert_array_equal(clean.actions_m[0], noisy.actions_m[0])
    assert noisy.success
    common = min(len(clean.images), len(noisy.images))
    assert np.abs(clean.ee_position_m[:common] - noisy.ee_position_m[:common]).max() > 0.005


def test_human_video_is_determined_by_its_arguments() -> None:
    _, state = start("coffee-push", "coffee", 6)
    one = human_video(state, "coffee-push", 1)
    two = human_video(state, "coffee-push", 1)
    other = human_video(state, "coffee-push", 2)
    np.testing.assert_array_equal(one.frames, two.frames)
    assert (one.frames != other.frames).any()
    assert one.frames.shape == (16, 224, 224, 3)
    assert one.frames.dtype == np.uint8
    assert one.success


@pytest.mark.parametrize("seed", range(3))
def test_first_frame_is_the_scene_and_the_robot_is_nowhere(seed: int) -> None:
    world, state = start("drawer-close", "drawer", seed)
    video = human_video(state, "drawer-close", seed)
    scene = renderer_for("drawer", 224).rgb(world.mj_data, robot=False)
    differs = (video.frames[0] != scene).any(axis=-1).mean()
    assert differs < 0.03  # at most a bit of the hand at the picture's edge
    # The hand is well in the picture later on.
    assert (video.frames[10] != scene).any(axis=-1).mean() > 0.03


def test_hand_is_where_it_is_said_to_be() -> None:
    _, state = start("coffee-push", "coffee", 2)
    video = human_video(state, "coffee-push", 5)
    pixel, _ = project(video.hand_positions_m[8], 224)
    x, y = np.rint(pixel).astype(int)
    patch = slice(y - 12, y + 13), slice(x - 12, x + 13)
    assert (video.frames[8][patch] != video.frames[0][patch]).any(axis=-1).mean() > 0.2


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_video_whose_object_moves(task: str) -> None:
    _, state = start(task, TASKS[task].scene, 1)
    video = human_video(state, task, 1, frames=5, image_size=96, points=40)
    assert video.success
    moved = np.linalg.norm(video.tracks_px[:, -1] - video.tracks_px[:, 0], axis=-1)
    assert moved.max() > 3.0, "some point is carried along"
    assert np.median(moved[20:]) < 0.01, "the background stays"
    assert (video.frames[2] != video.frames[0]).any(axis=-1).mean() > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_hand_stays_with_what_it_holds_in_the_air(seed: int) -> None:
    _, state = start("basketball", "basketball", 1)
    video = human_video(state, "basketball", seed, frames=4, image_size=32)
    ball = video.landmarks_m[-1, 0]
    assert np.linalg.norm(video.hand_positions_m[-1] - ball) < 0.05


def test_demonstrator_that_cannot_succeed_says_so() -> None:
    world, _ = start("coffee-pull", "coffee", 1)
    # Throw the mug off the table: no expert gets it back.
    world.physics.data.qpos[:3] = (0.0, 1.6, 0.5)
    world.physics.forward()
    with pytest.raises(DemonstrationFailed, match="coffee-pull"):
        human_video(world.get_state(), "coffee-pull", 0)


def test_task_of_another_scene_is_refused() -> None:
    _, state = start("drawer-open", "drawer", 0)
    with pytest.raises(UnknownTask):
        human_video(state, "door-open", 0)


def test_projection_inverts() -> None:
    points = np.random.default_rng(0).uniform((-0.3, 0.4, 0.0), (0.3, 0.9, 0.3), (50, 3))
    pixels, depth = project(points, 224)
    np.testing.assert_allclose(unproject(pixels, depth, 224), points, atol=1e-9)


def test_projection_agrees_with_the_renderer() -> None:
    """The mug is the only white thing on the table: its projection must fall on it."""
    world, _ = start("coffee-push", "coffee", 2)
    renderer = renderer_for("coffee", 224)
    mug = world.physics.model.body("mug").id
    ids = renderer.geom_ids(world.mj_data)
    rows, columns = np.nonzero(world.physics.model.geom_bodyid[np.maximum(ids, 0)] == mug)
    centre, _ = project(world.kin.object_m + np.array([0.0, 0.0, 0.035]), 224)
    assert abs(columns.mean() - centre[0]) < 4.0  # the handle pulls the mean a little
    assert abs(rows.mean() - centre[1]) < 3.0


def test_tracks_follow_the_drawer_and_stay_on_the_background() -> None:
    _, state = start("drawer-open", "drawer", 4)
    video = human_video(state, "drawer-open", 4, points=40)
    assert video.tracks_px.shape == (40, 16, 2)
    assert video.visible.shape == (40, 16)
    np.testing.assert_array_equal(video.points0_px, video.tracks_px[:, 0])
    # Picked at whole pixels of the first frame and visible there, unless the hand is in front.
    np.testing.assert_allclose(video.points0_px, np.rint(video.points0_px), atol=1e-3)
    assert video.visible[:, 0].mean() > 0.9
    moved = np.linalg.norm(video.tracks_px[:, -1] - video.tracks_px[:, 0], axis=-1)
    assert (moved[:20] > 10.0).all(), "first half lies on the drawer, pulled out 15 cm"
    assert (moved[20:] < 0.01).all(), "second half lies on static things"
    assert video.visible.mean() < 1.0, "the hand passes in front of something"


def test_robot_tracks_have_one_column_per_tick() -> None:
    world, _ = start("drawer-close", "drawer", 4)
    episode = robot_demo(world, "drawer-close", 4, noise=0.0, points=10)
    assert episode.tracks is not None
    assert episode.tracks.tracks_px.shape == (10, len(episode.images), 2)


@pytest.mark.parametrize("backend", ["glfw", "nonsense"])
def test_without_a_renderer_the_command_to_type_is_named(backend: str, tmp_path: Path) -> None:
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("DISPLAY", None)
    environment.pop("WAYLAND_DISPLAY", None)
    run = [sys.executable, "-m", "gen2act_sim", "sheet", "--task", "drawer-open"]
    done = subprocess.run(
        [*run, "--out", str(tmp_path / "x.png")],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "apt-get install -y libegl1" in done.stderr


def test_command_line_writes_a_sheet(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    run = [sys.executable, "-m", "gen2act_sim", "sheet", "--task", "faucet-open"]
    subprocess.run([*run, "--points", "5", "--out", str(out)], check=True, timeout=60)
    assert out.stat().st_size > 10_000
