import numpy as np
import pytest

from gen2act_learning.data.batches import collate, list_episodes, pick_frames, stream
from gen2act_learning.data.demos import make_demo
from gen2act_learning.data.episodes import load, save


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


def test_an_episode_survives_the_disk(tmp_path, make_episode):
    episode = make_episode()
    save(episode, tmp_path, "one")
    (path,) = list_episodes((str(tmp_path),))
    again = load(path)
    assert again.task == episode.task
    np.testing.assert_array_equal(again.video, episode.video)
    np.testing.assert_array_equal(again.images, episode.images)
    np.testing.assert_array_equal(again.actions_m, episode.actions_m)


def test_an_empty_folder_says_how_to_make_data(tmp_path):
    with pytest.raises(FileNotFoundError, match="gen2act-data demos"):
        list_episodes((str(tmp_path),))


def test_too_few_episodes_are_refused_instead_of_waiting_for_ever(make_episode):
    with pytest.raises(ValueError, match="fewer than"):
        next(stream([make_episode()], lambda chosen, rng: chosen, episodes=2, seed=0))


def test_evaluation_seeds_are_refused_for_demonstrations(tmp_path):
    with pytest.raises(ValueError, match="reserved"):
        make_demo("coffee-push", 100, tmp_path)


def test_a_demonstration_pairs_robot_and_human_video(tmp_path):
    assert make_demo("drawer-close", 10_000, tmp_path)
    episode = load(tmp_path / "drawer-close-10000.npz")
    assert len(episode.video) >= 16
    assert len(episode.images) == len(episode.actions_m) == len(episode.terminate)
    assert episode.terminate[-1] == 1 and episode.terminate[0] == 0
    assert np.abs(episode.actions_m).max() <= 0.05 + 1e-6
