from dataclasses import replace

import numpy as np
import pytest

from gen2act_learning.data.batches import (
    Batches,
    collate,
    draws,
    other_instances,
    pick_frames,
    stream,
)
from gen2act_learning.data.demos import make_demo
from gen2act_learning.data.errors import DatasetError
from gen2act_policy.words import word_ids


def test_first_and_last_video_frame_are_always_in():
    rng = np.random.default_rng(0)
    for count in (16, 17, 40):
        picked = pick_frames(count, 16, rng)
        assert picked[0] == 0 and picked[-1] == count - 1
        assert len(picked) == 16 and (np.diff(picked) >= 0).all()


def test_history_repeats_the_first_frame_and_never_crosses_episodes(small, make_episode):
    episodes = [make_episode(6), make_episode(5, seed=1)]
    batch = collate(episodes, np.random.default_rng(0), small, times=99)
    starts = np.array([0, 6])[batch.episode.numpy()]
    history = batch.history.numpy()
    assert (history >= starts[:, None]).all()
    assert (history[:, -1] < starts + np.array([6, 5])[batch.episode.numpy()]).all()
    first = history[history[:, -1] == starts]
    assert len(first) == 2 and (first == first[:, -1:]).all()


def test_labels_are_those_of_the_history_s_last_frame(small, make_episode):
    episode = make_episode(6)
    batch = collate([episode], np.random.default_rng(0), small, times=99)
    for row, history in enumerate(batch.history.numpy()):
        np.testing.assert_array_equal(batch.actions[row, 0], episode.actions_m[history[-1]])
        assert batch.terminate[row] == episode.terminate[history[-1]]


def test_too_few_episodes_are_refused_instead_of_waiting_for_ever(make_episode):
    with pytest.raises(ValueError, match="fewer than"):
        next(stream(1, lambda drawn, rng: drawn, episodes=2, seed=0))


def test_another_instance_s_video_comes_with_its_labels_and_nothing_of_the_robot(
    small, make_episode
):
    items = [
        replace(make_episode(seed=seed, frames=4), task=task)
        for seed, task in enumerate(["open", "close", "open", "close"])
    ]
    others = other_instances(items, items)
    batches = Batches(items, small, 2, "human_video", others)
    batch = batches.make([0, 3], np.random.default_rng(0))
    for row, (own, other) in enumerate([(items[0], items[2]), (items[3], items[1])]):
        np.testing.assert_array_equal(batch.video[row], other.video)
        np.testing.assert_array_equal(batch.hand[row, :, :3], other.hand_position_m)
        np.testing.assert_array_equal(batch.tracks[row], other.tracks)
        np.testing.assert_array_equal(batch.points[row], other.points)
        np.testing.assert_array_equal(batch.contact[row, 1], other.ee_position_m[-1])
        np.testing.assert_array_equal(batch.landmarks.world[4 * row], other.video_landmarks_m[0])
        np.testing.assert_array_equal(batch.frames[6 * row : 6 * row + 6], own.images)
        np.testing.assert_array_equal(batch.landmarks.world[8 + 6 * row], own.landmarks_m[0])


def test_every_other_instance_has_its_turn(small, make_episode):
    items = [make_episode(seed=seed, frames=4) for seed in range(4)]
    batches = Batches(items, small, 1, "human_video", other_instances(items, items))
    rng = np.random.default_rng(0)
    shown = {batches.make([0], rng).video.numpy().tobytes() for _ in range(30)}
    assert shown == {item.video.tobytes() for item in items[1:]}


def test_a_task_without_another_instance_is_named(make_episode):
    items = [replace(make_episode(), task=task) for task in ("open", "open", "close", "close")]
    with pytest.raises(DatasetError, match=r"of: 'close'\."):
        other_instances(items[:3], items[:3])
    ((found,),) = other_instances(items[2:3], items)
    assert found is items[3]


def test_an_instruction_takes_the_place_of_the_video(small, make_episode):
    episode = replace(make_episode(), task="open the drawer")
    batch = collate([episode], np.random.default_rng(0), small, 2, "language")
    np.testing.assert_array_equal(batch.words[0], word_ids("open the drawer"))
    assert batch.video.shape[:2] == (1, 0)
    assert len(batch.landmarks.world) == len(episode.images)


def test_a_goal_image_is_the_video_s_last_frame(small, make_episode):
    episode = make_episode()
    batch = collate([episode], np.random.default_rng(0), small, 2, "goal_image")
    assert batch.video.shape[1] == small.goal_frames
    assert (batch.video[0].numpy() == episode.video[-1]).all()


def test_chances_decide_how_often_an_item_is_drawn():
    chances = np.array([0.5, 0.3, 0.1, 0.1])
    drawing = draws(4, 3, np.random.default_rng(0), chances)
    drawn = np.concatenate([next(drawing) for _ in range(1000)])
    np.testing.assert_allclose(np.bincount(drawn) / 3000, chances, atol=0.03)


def test_without_chances_every_item_has_its_turn():
    drawing = draws(6, 2, np.random.default_rng(0), None)
    assert sorted(np.concatenate([next(drawing) for _ in range(3)])) == list(range(6))


def test_evaluation_seeds_are_refused_for_demonstrations():
    with pytest.raises(ValueError, match="reserved"):
        make_demo("coffee-push", 100)


def test_a_demonstration_pairs_robot_and_human_video():
    episode = make_demo("drawer-close", 10_000)
    assert episode is not None and episode.task == "close the drawer"
    assert len(episode.video) >= 16
    assert len(episode.images) == len(episode.actions_m) == len(episode.terminate)
    assert episode.terminate[-1] == 1 and episode.terminate[0] == 0
    assert np.abs(episode.actions_m).max() <= 0.05 + 1e-6
