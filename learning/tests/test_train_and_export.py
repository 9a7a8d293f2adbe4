from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gen2act_learning.config import TrainConfig
from gen2act_learning.data.recorder import Recorder, prepare
from gen2act_learning.evaluation.cli import open_bundle
from gen2act_learning.export import export, load_policy
from gen2act_learning.plots import read_log
from gen2act_learning.runlog import Log
from gen2act_learning.train import main
from gen2act_learning.trainer import CheckpointMismatch, Trainer
from gen2act_policy.local import LocalPolicy
from gen2act_policy.testing import small_spec, write_random_bundle
from gen2act_sim import TASKS


@pytest.fixture
def config(tmp_path, small, make_episode) -> TrainConfig:
    data = tmp_path / "data"
    with Recorder(data) as recorder:
        for seed in range(4):
            episode = replace(make_episode(seed=seed, frames=16), task="stack the cups")
            recorder.add(prepare(episode, f"e{seed}"))
    return TrainConfig(
        data=(str(data),),
        out=str(tmp_path / "run"),
        minutes=9,
        steps=2,
        episodes_per_step=2,
        times_per_episode=2,
        # A graph is traced node by node: the fewer, the quicker.
        model=replace(small, resampler_layers=1, fusion_layers=1, decoder_layers=1),
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


def test_a_bundle_names_the_tasks_that_its_run_was_trained_on(config, tmp_path, make_episode):
    Trainer(config).run()
    more = tmp_path / "more"
    with Recorder(more) as recorder:
        for name in ("drawer-open", "drawer-close"):
            episode = replace(make_episode(frames=16), task=TASKS[name].instruction)
            recorder.add(prepare(episode, name))
    Trainer(replace(config, data=(str(more),), steps=3)).run()  # the same run, other data
    training = load_policy(tmp_path / "run").training
    assert training["tasks"] == ["drawer-close", "drawer-open", "stack the cups"]
    write_random_bundle(tmp_path / "bundle", small_spec(), training=training)
    _, trained = open_bundle(tmp_path / "bundle")
    assert trained == ("drawer-close", "drawer-open", "stack the cups")


def test_a_run_conditioned_on_language_becomes_a_bundle_that_follows_words(config, tmp_path):
    Trainer(replace(config, conditioning="language")).run()
    result = export(tmp_path / "run", tmp_path / "bundle", "test", config.data, steps=10)
    assert result["agreement"] == 1.0
    policy = LocalPolicy(tmp_path / "bundle", threads=1)
    ends = []
    for instruction in ("stack the cups", "Stack the cups.", "open the drawer"):
        policy.start(instruction)
        _, terminate = policy.act(np.zeros((64, 64, 3), np.uint8), [0.0, 0.6, 0.2, 1.0])
        ends.append(terminate)
    assert ends[0] == ends[1] != ends[2]


def test_other_instances_from_a_mixture_train_on_frozen_features(config, tmp_path, make_episode):
    more = tmp_path / "more"
    with Recorder(more) as recorder:
        for seed in range(4):
            episode = replace(make_episode(seed=9 + seed, frames=16), task="stack the cups")
            recorder.add(prepare(episode, f"m{seed}"))
    trainer = Trainer(
        replace(
            config,
            data=(f"{config.data[0]}:2", f"{more}:1"),
            conditioning="human_video",
            freeze_encoder=True,
            checkpoint_minutes=0.0,
        )
    )
    trainer.run()
    assert trainer.step == 2 and len(trainer.validation) == 1
    log = read_log(tmp_path / "run" / "log-policy.csv")
    assert set(log["track_goal"]["held-out"]) == {1, 2}


@pytest.mark.parametrize(
    ("tasks", "conditioning", "told"),
    [
        (("fold", "fold", "press", "wipe"), "human_video", "'press', 'wipe'"),
        (("fold " * 40, "wipe"), "language", "has 40 words"),
    ],
)
def test_data_that_cannot_be_conditioned_on_are_refused_in_one_line(
    tmp_path, make_episode, capsys, tasks, conditioning, told
):
    with Recorder(tmp_path / "data") as recorder:
        for index, task in enumerate(tasks):
            episode = replace(make_episode(seed=index, frames=16), task=task)
            recorder.add(prepare(episode, f"e{index}"))
    line = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*line, "--episodes-per-step", "2", "--conditioning", conditioning]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and told in error


def test_a_run_keeps_its_conditioning(config):
    Trainer(config).save()
    with pytest.raises(CheckpointMismatch, match="--conditioning video, not goal_image"):
        Trainer(replace(config, conditioning="goal_image"))


def test_too_few_episodes_are_told_before_anything_is_encoded(config, capsys):
    line = ["--data", *config.data, "--out", config.out, "--minutes", "1", "--device", "cpu"]
    assert main([*line, "--freeze-encoder"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "--episodes-per-step 4" in told
    assert not Path(config.out).exists()


def test_a_mismatch_ends_the_command_in_one_line(config, capsys):
    Trainer(config).save()
    assert main(["--data", *config.data, "--out", config.out, "--episodes-per-step", "2"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "another model" in told


def test_rows_of_other_columns_begin_a_new_log(tmp_path):
    log = Log(tmp_path)
    log.write("train", 25, 60, {"action": 4.0, "track_goal": 0.5})
    Log(tmp_path).write("train", 50, 120, {"action": 3.0})
    Log(tmp_path).write("train", 75, 180, {"action": 2.0, "track_goal": 0.25})
    whole = read_log(tmp_path / "log-policy.csv")
    assert whole["action"]["train"] == {25: 4.0, 75: 2.0}
    assert whole["track_goal"]["train"] == {25: 0.5, 75: 0.25}
    assert read_log(tmp_path / "log-policy-2.csv") == {"action": {"train": {50: 3.0}}}
