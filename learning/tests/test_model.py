import numpy as np
import torch

from gen2act_learning.config import TrainConfig
from gen2act_learning.data.batches import collate
from gen2act_learning.model import Auxiliary, Policy
from gen2act_learning.objective import losses, soft_labels


def test_keys_and_values_of_a_frame_do_not_depend_on_its_place(small):
    """What makes caching per frame legitimate."""
    policy = Policy(small).eval()
    features = torch.randn(2, small.history, small.frame_tokens, small.width)
    together = policy.robot_resampler(features)[:, : small.tokens]
    frames = features.flatten(0, 1)
    cached = torch.cat(
        [policy.robot_resampler.project(frame[None]) for frame in frames], dim=1
    ).unflatten(1, (2, small.history))
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


def test_a_few_steps_lower_the_loss_of_one_batch(small, make_episode):
    torch.manual_seed(0)
    config = TrainConfig(data=(), out="", model=small, color_jitter=0.0)
    policy, auxiliary = Policy(small), Auxiliary(small)
    batch = collate(
        [make_episode(6), make_episode(5, seed=1)], np.random.default_rng(0), small, times=4
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
