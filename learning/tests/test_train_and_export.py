from dataclasses import replace

import numpy as np
import pytest

from gen2act_learning.config import TrainConfig
from gen2act_learning.data.recorder import Recorder, prepare
from gen2act_learning.export import export
from gen2act_learning.train import CheckpointMismatch, Trainer
from gen2act_policy.local import LocalPolicy


@pytest.fixture
def config(tmp_path, small, make_episode) -> TrainConfig:
    data = tmp_path / "data"
    with Recorder(data) as recorder:
        for seed in range(4):
            recorder.add(prepare(make_episode(seed=seed, frames=16), f"e{seed}"))
    return TrainConfig(
        data=(str(data),),
        out=str(tmp_path / "run"),
        minutes=9,
        steps=2,
        episodes_per_step=2,
        times_per_episode=2,
        model=small,
        device="cpu",
        threads=1,
    )


def test_train_resume_export_act(config, tmp_path):
    Trainer(config).run()
    resumed = Trainer(replace(config, steps=4))
    before = resumed.step
    assert before > 0
    resumed.run()
    assert resumed.step > before

    bundle = tmp_path / "bundle"
    result = export(tmp_path / "run", bundle, "test", config.data, steps=10)
    assert result["agreement"] == 1.0
    policy = LocalPolicy(bundle)
    policy.start(np.zeros((20, 64, 64, 3), np.uint8))
    chunk, terminate = policy.act(np.zeros((64, 64, 3), np.uint8), [0.0, 0.6, 0.2, 1.0])
    assert chunk.values.shape == (4, 3)
    assert np.abs(chunk.values).max() <= 0.05
    assert 0 <= terminate <= 1


def test_a_checkpoint_of_another_model_is_refused(config, small):
    Trainer(config).save()
    with pytest.raises(CheckpointMismatch, match="another model"):
        Trainer(replace(config, model=replace(small, tokens=4)))


def test_pretraining_then_training_on_frozen_features(config):
    trainer = Trainer(
        replace(
            config,
            pretrain_minutes=4,
            pretrain_episodes_per_step=2,
            freeze_encoder=True,
        )
    )
    trainer.run()
    assert trainer.step > 0
    stored = list((trainer.out / "features").rglob("*.npy"))
    assert len(stored) == 4  # every episode, encoded once
    frozen = list(trainer.policy.frame_encoder.parameters())
    assert frozen and not any(p.requires_grad for p in frozen)
