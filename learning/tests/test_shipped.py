"""`models/tiny` is what `models/tiny-training` becomes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gen2act_learning.export import load_policy
from gen2act_policy.bundle import load_bundle
from gen2act_policy.runtime import OnnxRuntime

MODELS = Path(__file__).parents[2] / "models"


@torch.no_grad()
def test_the_shipped_bundle_acts_as_the_committed_checkpoint():
    trained = load_policy(MODELS / "tiny-training")
    bundle = load_bundle(MODELS / "tiny")
    runtime = OnnxRuntime(bundle, threads=1)
    assert replace(bundle.spec, model_hash="") == trained.spec
    policy, cfg = trained.policy, trained.policy.cfg
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (cfg.goal_frames, *[cfg.image_size] * 2, 3), dtype=np.uint8)
    measured = rng.random((1, cfg.history, 4), dtype=np.float32)

    features = runtime.encode(images)
    goal = runtime.resample(features[None])
    history = features[None, : cfg.history]
    step = runtime.step(history, goal[None], measured)

    expected = policy.frame_encoder(torch.from_numpy(images))
    robot = policy.robot_resampler(expected[None, : cfg.history])
    out = policy.act(robot, policy.goal(expected[None]), torch.from_numpy(measured))
    for actual, wanted in (
        (features, expected),
        (step.action_logits, out.action),
        (step.gripper_logits, out.gripper),
        (step.terminate_logits, out.terminate),
    ):
        np.testing.assert_allclose(actual, wanted.numpy(), atol=2e-3)
