"""A training run: behaviour cloning within a time budget; resumes where it stopped."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gen2act_policy.words import word_ids

from .config import TrainConfig
from .data.batches import (
    Batch,
    Batches,
    FrameBatch,
    Item,
    collate_frames,
    other_instances,
    read,
    stream,
)
from .data.episodes import Episode
from .data.errors import DatasetError
from .data.mixture import open_mixture
from .model import Auxiliary, Policy
from .objective import locate_only, losses
from .plots import write_plots
from .runlog import Log

Items = Sequence[Item]
VALIDATION_TIMES = 6  # policy samples of each held-out episode


class CheckpointMismatch(ValueError):
    """No checkpoint, or one of another model, conditioning or action space."""


def actions_of(config: TrainConfig) -> dict[str, object]:
    """What a checkpoint says about its actions."""
    plain: dict[str, object] = json.loads(json.dumps(config.to_json()))
    return {"dimensions": plain["dimensions"], "frame": plain["frame"]}


def learning_rate(config: TrainConfig, step: int, used: float) -> float:
    """Warm-up by steps, then cosine over the budget (``used`` in [0, 1])."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    cosine = 0.5 * (1 + np.cos(np.pi * min(used, 1.0)))
    return config.lr_final + (config.lr - config.lr_final) * float(cosine)


class Trainer:
    """Holds everything that a checkpoint restores.

    Raises:
        DatasetError: the data cannot be trained on, or are too few for one step.
        InvalidInstruction: conditioned on language, a task's text has too many words.
        CheckpointMismatch: of the run's own checkpoint, or of the encoder's.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.data = open_mixture(config.data, config.model.image_size)
        if config.model.proprioception and not self.data.has_state:
            raise DatasetError(
                "the data have no end-effector position and gripper opening: name them with "
                "`gen2act-data describe --state ... --opening ...` or train with "
                "--no-proprioception"
            )
        model = replace(config.model, action_dims=len(self.data.dimensions))
        config = replace(
            config, model=model, dimensions=self.data.dimensions, frame=self.data.frame
        )
        self.config = config
        self.tasks = {item.task for item in self.data.episodes}
        self.training, self.validation, self.chances = self.split()
        self.check_enough()
        self.check_conditioning()
        self.out = Path(config.out)
        self.out.mkdir(parents=True, exist_ok=True)
        name = config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(name)
        torch.manual_seed(config.seed)
        self.policy = Policy(config.model, config.conditioning).to(self.device)
        # Pictures come with channels last; convolutions run a third faster if weights are alike.
        self.policy.frame_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.auxiliary = Auxiliary(config.model).to(self.device)
        self.average = copy.deepcopy(self.policy).requires_grad_(False)
        self.parameters = [*self.policy.parameters(), *self.auxiliary.parameters()]
        decay = [p for p in self.parameters if p.ndim >= 2]
        plain = [p for p in self.parameters if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decay, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=(0.9, 0.98),
        )
        self.step = 0
        self.spent_s = 0.0
        if config.encoder_from is not None and not self.checkpoint.exists():
            self.take_encoder(Path(config.encoder_from) / "last.pt")
        self.resume()

    @property
    def checkpoint(self) -> Path:
        return self.out / "last.pt"

    def split(self) -> tuple[Items, Items, NDArray[np.float64] | None]:
        """Episodes to train on, those held out, and the chances of the former."""
        items, chances = self.data.episodes, self.data.chances
        order = np.random.default_rng(1).permutation(len(items))
        held_out = min(self.config.validation_episodes, len(items) // 8)
        training = [items[i] for i in order[held_out:]]
        validation = [items[i] for i in order[:held_out]]
        return training, validation, None if chances is None else chances[order[held_out:]]

    def check_enough(self) -> None:
        """Raises DatasetError: a step takes more episodes than there are."""
        config, there = self.config, len(self.training)
        wanted = {"--episodes-per-step": config.episodes_per_step}
        if config.pretrain_minutes > 0:
            wanted["--pretrain-episodes-per-step"] = config.pretrain_episodes_per_step
        for flag, each in wanted.items():
            if there < each:
                raise DatasetError(
                    f"{there} episodes ({len(self.validation)} more are held out) are fewer than "
                    f"the {each} of one step: record more, or take {flag} {there}"
                )

    def check_conditioning(self) -> None:
        """Raises DatasetError, InvalidInstruction: the data cannot be conditioned on like that."""
        self.batches(self.training, self.training)
        self.batches(self.validation, [*self.training, *self.validation])
        if self.config.conditioning == "language":
            for task in self.tasks:
                word_ids(task)

    def batches(self, items: Items, pool: Items, times: int = VALIDATION_TIMES) -> Batches:
        """Makes batches of the items with `times` policy samples of each.

        Args:
            pool: where the human videos are from, if another episode's are shown.
        """
        config = self.config
        others = other_instances(items, pool) if config.conditioning == "human_video" else None
        return Batches(items, config.model, times, config.conditioning, others)

    def take_encoder(self, checkpoint: Path) -> None:
        """Begin with the averaged frame encoder of another run of the same model shape."""
        if not checkpoint.exists():
            raise CheckpointMismatch(f"no encoder to begin with: {checkpoint} is not there")
        saved = torch.load(checkpoint, map_location=self.device, weights_only=True)
        if saved["model_config"] != self.model_config:
            raise CheckpointMismatch(f"{checkpoint} holds an encoder of another model shape")
        prefix = "frame_encoder."
        encoder = {
            key.removeprefix(prefix): value
            for key, value in saved["average"].items()
            if key.startswith(prefix)
        }
        for policy in (self.policy, self.average):
            policy.frame_encoder.load_state_dict(encoder)
        self.tasks |= set(saved.get("tasks", ()))
        print(f"frame encoder of {checkpoint} (step {saved['step']})", flush=True)

    @property
    def model_config(self) -> dict[str, object]:
        """As a checkpoint stores it."""
        shape: dict[str, object] = json.loads(json.dumps(self.config.to_json()["model"]))
        return shape

    def resume(self) -> None:
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if saved["model_config"] != self.model_config:
            raise CheckpointMismatch(
                f"{self.checkpoint} was trained with another model configuration; "
                "choose another --out or delete it"
            )
        conditioning = saved.get("conditioning", "video")
        if conditioning != self.config.conditioning:
            raise CheckpointMismatch(
                f"{self.checkpoint} was trained with --conditioning {conditioning}, not "
                f"{self.config.conditioning}; choose another --out or delete it"
            )
        trained, wanted = (
            saved.get("actions", actions_of(TrainConfig((), ""))),
            actions_of(self.config),
        )
        if trained != wanted:
            raise CheckpointMismatch(
                f"{self.checkpoint} was trained for actions {trained}, the data have {wanted}; "
                "choose another --out or delete it"
            )
        self.policy.load_state_dict(saved["policy"])
        self.auxiliary.load_state_dict(saved["auxiliary"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.spent_s = saved["step"], saved["spent_s"]
        self.tasks |= set(saved.get("tasks", ()))
        print(f"resumed at step {self.step} after {self.spent_s / 60:.1f} min", flush=True)

    def save(self) -> None:
        temporary = self.out / "last.tmp"
        torch.save(
            {
                "policy": self.policy.state_dict(),
                "auxiliary": self.auxiliary.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "spent_s": self.spent_s,
                "model_config": self.model_config,
                "conditioning": self.config.conditioning,
                "actions": actions_of(self.config),
                "tasks": sorted(self.tasks),
            },
            temporary,
        )
        temporary.rename(self.checkpoint)

    def set_learning_rate(self) -> None:
        """Each phase, pre-training and training proper, warms up and decays over its own budget."""
        begin_s, end_s = 0.0, self.config.pretrain_minutes * 60
        if self.spent_s >= end_s:
            begin_s, end_s = end_s, self.config.minutes * 60
        used = (self.spent_s - begin_s) / (end_s - begin_s)
        if self.config.steps is not None:
            used = max(used, self.step / self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, used)

    def update(self, batch: Batch | FrameBatch) -> dict[str, float]:
        """One optimiser step on episodes, or on single frames while pre-training."""
        config = self.config
        self.set_learning_rate()
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            if isinstance(batch, FrameBatch):
                total, metrics = locate_only(self.policy, self.auxiliary, batch, config)
            else:
                total, metrics = losses(self.policy, self.auxiliary, batch, config, train=True)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, config.grad_clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.policy.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        return metrics

    @torch.no_grad()
    def validate(self, batches: Batches) -> dict[str, float]:
        """Mean metrics of the averaged weights on held-out episodes."""
        rows = []
        rng = np.random.default_rng(0)
        numbers = range(len(batches.items))
        for i in range(0, len(numbers), 8):
            batch = batches.make(numbers[i : i + 8], rng)
            _, metrics = losses(
                self.average, self.auxiliary, batch.to(self.device), self.config, train=False
            )
            rows.append(metrics)
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}

    @torch.no_grad()
    def freeze(self, items: Items) -> list[Episode]:
        """Encode every frame once (averaged weights) and hold features instead of images.

        Where compute is short this trades a still-learning encoder for several times as many
        policy samples a second.
        """
        self.policy.frame_encoder.load_state_dict(self.average.frame_encoder.state_dict())
        self.policy.frame_encoder.requires_grad_(False)
        state = b"".join(t.cpu().numpy().tobytes() for t in self.average.frame_encoder.parameters())
        cache = self.out / "features" / hashlib.sha256(state).hexdigest()[:12]
        cache.mkdir(parents=True, exist_ok=True)
        episodes = []
        for count, item in enumerate(items, 1):
            episode = read(item)
            if isinstance(item, Episode):
                episodes.append(episode)
                continue
            stored = cache / f"{item.name}.npy"
            if stored.exists():
                half = np.load(stored)
            else:
                frames = np.concatenate([episode.video, episode.images])
                features = self.policy.frame_encoder(torch.from_numpy(frames).to(self.device))
                half = features.half().cpu().numpy()
                np.save(stored, half)
            split = len(episode.video)
            episodes.append(replace(episode, video=half[:split], images=half[split:]))
            if count % 100 == 0:
                print(f"\rencoded {count}/{len(items)} episodes", end="", flush=True)
        print(flush=True)
        return episodes

    def run(self) -> None:
        config = self.config
        print(json.dumps(config.to_json(), indent=1), flush=True)
        training, validation = self.training, self.validation
        print(f"{len(training)} training episodes, {len(validation)} held out", flush=True)
        log = Log(self.out)
        if self.spent_s < config.pretrain_minutes * 60:
            frames = stream(
                len(training),
                lambda drawn, rng: collate_frames(
                    [read(self.training[i]) for i in drawn], rng, each=2
                ),
                episodes=config.pretrain_episodes_per_step,
                seed=config.seed + self.step,
                chances=self.chances,
            )
            self.train_until(config.pretrain_minutes, frames, None, log)
            self.step = 0  # the policy warms up anew
        if config.freeze_encoder:
            training, validation = self.freeze(training), self.freeze(validation)
        held_out = self.batches(validation, [*training, *validation])
        batches = stream(
            len(training),
            self.batches(training, training, config.times_per_episode).make,
            episodes=config.episodes_per_step,
            seed=config.seed + self.step,
            chances=self.chances,
        )
        self.train_until(config.minutes, batches, held_out, log)

    def train_until(
        self,
        minutes: float,
        batches: Iterator[Batch | FrameBatch],
        held_out: Batches | None,
        log: Log,
    ) -> None:
        """Train until the run has spent ``minutes`` in all; checkpoint and validate on the way."""
        config = self.config
        window: list[dict[str, float]] = []
        saved_at = mark = time.monotonic()
        while self.spent_s < minutes * 60 and (config.steps is None or self.step < config.steps):
            window.append(self.update(next(batches)))
            now = time.monotonic()
            self.spent_s, mark = self.spent_s + now - mark, now
            if self.step % 25 == 0:
                means = {k: float(np.mean([row[k] for row in window])) for k in window[0]}
                log.write("train", self.step, self.spent_s, means)
                window = []
            if now - saved_at > config.checkpoint_minutes * 60:
                self.save()
                if held_out is not None and held_out.items:
                    log.write("held-out", self.step, self.spent_s, self.validate(held_out))
                write_plots(self.out)
                saved_at = mark = time.monotonic()
        self.save()
        write_plots(self.out)
