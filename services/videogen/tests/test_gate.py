"""The sanity gate on made-up pictures; its bounds on simulated ones are in test_demonstrator."""

from __future__ import annotations

import numpy as np
import pytest

from gen2act_contracts.errors import VideoRejected
from gen2act_videogen import gate
from gen2act_videogen.testing import moving_video, scene_picture


def test_a_good_video_passes_and_is_measured() -> None:
    scene = scene_picture()
    report = gate.check(moving_video(scene), scene, starts_at_scene=True)
    assert report.frames == 16
    assert report.first_frame_difference == 0.0
    assert report.first_frame_enforced
    assert report.motion > gate.DEFAULT_BOUNDS.min_motion


def test_too_few_frames_are_refused_with_number_and_bound() -> None:
    scene = scene_picture()
    with pytest.raises(VideoRejected, match=r"15 frames, at least 16") as caught:
        gate.check(moving_video(scene, 15), scene, starts_at_scene=True)
    assert caught.value.metadata["measure"] == "frames"


def test_frames_that_are_not_square_are_refused() -> None:
    scene = scene_picture()
    with pytest.raises(VideoRejected, match="64x32"):
        gate.check(moving_video(scene)[:, :32], scene, starts_at_scene=True)


def test_frames_of_another_kind_are_refused() -> None:
    scene = scene_picture()
    with pytest.raises(VideoRejected, match="uint8"):
        gate.check(moving_video(scene).astype(np.float32), scene, True)


def test_another_scene_is_refused_with_measure_and_bound() -> None:
    video = moving_video(scene_picture(1))
    with pytest.raises(VideoRejected, match="does not resemble the scene") as caught:
        gate.check(video, scene_picture(2), starts_at_scene=True)
    assert caught.value.metadata["measure"] == "first_frame_difference"
    assert float(caught.value.metadata["measured"]) > float(caught.value.metadata["bound"])


def test_another_scene_is_only_reported_where_it_is_legitimate() -> None:
    report = gate.check(moving_video(scene_picture(1)), scene_picture(2), starts_at_scene=False)
    assert report.first_frame_difference > gate.DEFAULT_BOUNDS.max_first_frame_difference
    assert not report.first_frame_enforced


def test_a_robot_arm_at_the_edge_of_the_scene_is_tolerated() -> None:
    scene = scene_picture()
    with_arm = scene.copy()
    with_arm[:20, :14] = (200, 20, 20)
    gate.check(moving_video(scene), with_arm, starts_at_scene=True)


def test_a_colour_cast_is_tolerated() -> None:
    scene = scene_picture()
    brighter = (moving_video(scene) * 0.8 + 40).astype(np.uint8)
    darker = (scene * 0.8).astype(np.uint8)
    gate.check(brighter, darker, starts_at_scene=True)


def test_a_static_video_is_refused() -> None:
    scene = scene_picture()
    with pytest.raises(VideoRejected, match="static") as caught:
        gate.check(np.repeat(scene[None], 16, axis=0), scene, starts_at_scene=True)
    assert caught.value.metadata["measure"] == "motion"


def test_noise_and_flicker_are_no_motion() -> None:
    rng = np.random.default_rng(0)
    scene = (scene_picture(size=224) * 0.5 + 60).astype(np.uint8)
    flicker = rng.integers(-30, 30, (16, 1, 1, 1))
    noise = rng.normal(0, 10, (16, 224, 224, 1))
    video = np.clip(scene[None] + flicker + noise, 0, 255).astype(np.uint8)
    with pytest.raises(VideoRejected, match="static"):
        gate.check(video, scene, starts_at_scene=False)
