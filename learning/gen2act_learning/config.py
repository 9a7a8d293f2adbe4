"""Frozen configurations: one for the model's shape, one for a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from gen2act_contracts.spec import ActionDimension
from gen2act_policy.bundle import Conditioning

SIMULATOR_ACTIONS = tuple(ActionDimension(name, "m", -0.05, 0.05) for name in ("dx", "dy", "dz"))


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the policy (paper, section 3.2 and appendix 5.2)."""

    image_size: int = 224  # [px] side of every frame
    width: int = 128  # channels of every token
    heads: int = 4
    stem_channels: tuple[int, int, int] = (24, 48, 96)  # at strides 4, 8 and 16
    vit_layers: int = 2  # on patches of stride 32
    keypoints: int = 3  # points found in every frame, one token each; see Episode.landmarks_m
    resampler_layers: int = 2  # paper: 2
    tokens: int = 64  # N: tokens per stream, paper: 64
    bound_tokens: int = 32  # of these, bound to one frame each (evenly); the rest see all frames
    goal_frames: int = 16  # paper: 16, first and last included
    history: int = 8  # paper: last 8 robot frames
    # Beside the N tokens: the keypoints of the video's first and the robot's newest frame,
    # unresampled. The paper resamples everything; positions are learned much later that way.
    direct_tokens: bool = True
    fusion_layers: int = 2  # robot tokens attend to goal tokens
    decoder_layers: int = 2
    action_dims: int = 3
    chunk: int = 4  # h: actions per prediction
    bins: int = 256  # paper: 256 per dimension
    proprioception: bool = True  # end-effector position and gripper beside the frames
    track_layers: int = 6  # paper: 6 self-attention layers
    track_heads: int = 8  # paper: 8 heads

    @property
    def grid(self) -> int:
        """Patches per image side: the stem's total stride is 32."""
        return self.image_size // 32

    @property
    def stream_tokens(self) -> int:
        """Tokens that the decoder sees of each stream."""
        return self.tokens + (self.keypoints if self.direct_tokens else 0)

    @property
    def frame_tokens(self) -> int:
        """K: tokens of one encoded frame: patches pooled by two per side, then keypoints."""
        return ((self.grid + 1) // 2) ** 2 + self.keypoints


PRESETS = {
    "tiny": ModelConfig(),  # hours on two CPU cores
    "base": ModelConfig(  # ViT-B and the paper's sizes; for accelerators
        width=768,
        heads=12,
        stem_channels=(96, 192, 384),
        vit_layers=12,
        fusion_layers=4,
        decoder_layers=4,
    ),
}


@dataclass(frozen=True)
class LossWeights:
    """Weights of the training objective's terms."""

    gripper: float = 0.5
    terminate: float = 0.5
    terminate_positive: float = 2.0  # positives are rare: one tick in five
    action_mean: float = 0.5  # squared error of the bins' expectation, in units of the bound
    hand: float = 1.0  # hand path read back from the goal tokens
    contact: float = 1.0  # where the robot will grasp and where it will end, from the goal tokens
    locate: float = 1.0  # landmarks found in every single frame
    track: float = 0.3  # both streams; paper: lambda_tau, not stated


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Printed at the start, stored with every checkpoint."""

    data: tuple[str, ...]
    out: str
    minutes: float = 60.0  # wall-clock budget of the whole run, resumes included
    steps: int | None = None  # end each phase after so many steps even if time is left
    # What the goal tokens are made of. "video" is Gen2Act; the others are the paper's baselines:
    # the video's last frame alone, the instruction, a video of another episode of the same task.
    conditioning: Conditioning = "video"
    episodes_per_step: int = 8
    times_per_episode: int = 6  # policy samples per episode and step
    # Track loss costs the most, so only a part of a step's episodes and policy samples has it.
    track_episodes: int = 4
    track_samples: int = 8
    lr: float = 6e-4
    lr_final: float = 2e-5
    warmup_steps: int = 100
    weight_decay: float = 0.02
    ema: float = 0.998
    label_sigma_bins: float = 4.0  # ordered bins: soften labels over their neighbours
    color_jitter: float = 0.15
    grad_clip: float = 1.0
    seed: int = 0
    device: str = "auto"
    threads: int = 2
    checkpoint_minutes: float = 3.0
    validation_episodes: int = 48
    pretrain_minutes: float = 0.0  # frame encoder alone, before everything else
    pretrain_episodes_per_step: int = 12  # four frames of each
    freeze_encoder: bool = False  # train on features of the frames, encoded once
    encoder_from: str | None = None  # run whose frame encoder a new run starts with
    # What the data's actions mean; whatever is said here, the data decide.
    dimensions: tuple[ActionDimension, ...] = SIMULATOR_ACTIONS
    frame: str = "world"  # of reference of the actions
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossWeights = field(default_factory=LossWeights)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
