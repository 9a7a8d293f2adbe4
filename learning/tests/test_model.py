from typing import get_args

import numpy as np
import pytest
import torch

from gen2act_learning.config import LossWeights, TrainConfig
from gen2act_learning.data.batches import collate
from gen2act_learning.model import Auxiliary, Policy
from gen2act_learning.objective import losses, soft_labels
from gen2act_policy.bundle import Conditioning
from gen2act_policy.words import word_ids


def test_keys_and_values_of_a_frame_do_not_depend_on_its_place(small):
    """What makes caching per frame legitimate."""
    policy = Policy(small).eval()
    features = torch.randn(2, small.history, small.frame_tokens, small.width)
    together = policy.robot_resampler(features)[:, : small.tokens]
    apart = [policy.robot_resampler.project(frame[None]) for frame in features.flatten(0, 1)]
    cached = [
        torch.cat(frames).unflatten(0, (2, small.history)) for frames in zip(*apart, strict=True)
    ]
    torch.testing.assert_close(policy.robot_resampler.resample(cached), together)


def test_the_order_of_the_history_matters(small):
    policy = Policy(small).eval()
    features = torch.randn(1, small.history, small.frame_tokens, small.width)
    forward, backward = policy.robot_resampler(features), policy.robot_resampler(features.flip(1))
    assert (forward - backward).abs().max() > 1e-3


def test_the_goal_changes_the_action(small):
    policy = Policy(small).eval()
    robot = torch.randn(1, small.tokens, small.width)
    state = torch.rand(1, small.history, 4)
    one = policy.act(robot, torch.randn(1, small.tokens, small.width), state)
    two = policy.act(robot, torch.randn(1, small.tokens, small.width), state)
    assert (one.action - two.action).abs().max() > 1e-3


def test_soft_labels_peak_at_the_bin_that_serving_decodes():
    values = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    peak = soft_labels(values, 256, 4.0).argmax(-1)
    decoded = (peak + 0.5) / 256 * 2 - 1
    assert (decoded - values).abs().max() <= 1 / 256 + 1e-6


@pytest.mark.parametrize("track", [0.3, 0.0])
@pytest.mark.parametrize("conditioning", get_args(Conditioning))
def test_a_few_steps_lower_the_loss_of_one_batch(small, make_episode, conditioning, track):
    torch.manual_seed(0)
    config = TrainConfig(
        data=(),
        out="",
        model=small,
        color_jitter=0.0,
        conditioning=conditioning,
        loss=LossWeights(track=track),
    )
    policy, auxiliary = Policy(small, conditioning), Auxiliary(small)
    batch = collate(
        [make_episode(6), make_episode(5, seed=1)],
        np.random.default_rng(0),
        small,
        4,
        conditioning,
    )
    parameters = [*policy.parameters(), *auxiliary.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    first = last = None
    for _ in range(12):
        total, metrics = losses(policy, auxiliary, batch, config, train=True)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        last = metrics["action"]
        first = first or last
    assert last < 0.9 * first
    unused = [name for name, p in policy.named_parameters() if p.grad is None]
    assert not unused
    about_the_video = {"hand", "contact", "path_mm", "contact_mm"}
    if conditioning == "language":
        assert not about_the_video & set(metrics)
    else:
        assert about_the_video <= set(metrics)
    assert ("track_robot" in metrics) == (track > 0)
    assert ("track_goal" in metrics) == (track > 0 and conditioning != "language")


def test_a_goal_image_policy_reads_the_last_frame_alone(small):
    policy = Policy(small, "goal_image").eval()
    features = torch.randn(1, small.goal_frames, small.frame_tokens, small.width)
    earlier, last = features.clone(), features.clone()
    earlier[:, :-1] += 1.0
    last[:, -1] += 1.0
    goal = policy.goal(features)
    torch.testing.assert_close(policy.goal(earlier), goal)
    assert (policy.goal(last) - goal).abs().max() > 1e-3


def test_the_order_of_the_words_matters(small):
    policy = Policy(small, "language").eval()
    first, second = (
        policy.goal(torch.from_numpy(word_ids(text))[None])
        for text in ("mug on shelf", "shelf on mug")
    )
    assert first.shape == (1, small.stream_tokens, small.width)
    assert (first - second).abs().max() > 1e-3
