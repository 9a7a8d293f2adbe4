"""The closed-loop policy: goal tokens and robot tokens to binned actions (paper, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gen2act_policy.bundle import Conditioning

from ..config import ModelConfig
from .encoder import FrameEncoder, Resampler
from .language import InstructionEncoder
from .layers import CrossBlock, SelfBlock

# End-effector positions are centred on the workspace and scaled to about [-1, 1] inside the graph.
WORKSPACE_CENTER_M = (0.0, 0.65, 0.2)
WORKSPACE_SCALE_M = 0.3


class ActionLogits(NamedTuple):
    action: Tensor  # [B, h, D, bins]
    gripper: Tensor  # [B, h], sigmoid: closed
    terminate: Tensor  # [B]


class Policy(nn.Module):
    """Everything that serves; training-only heads live in :mod:`.auxiliary`."""

    center: Tensor  # [3] of the workspace [m]

    def __init__(self, cfg: ModelConfig, conditioning: Conditioning = "video") -> None:
        super().__init__()
        self.cfg = cfg
        self.conditioning = conditioning
        self.frame_encoder = FrameEncoder(cfg)
        if conditioning == "language":
            self.instruction_encoder = InstructionEncoder(cfg)
        else:
            self.goal_resampler = Resampler(cfg, cfg.goal_frames, direct_frame=0)
        self.robot_resampler = Resampler(cfg, cfg.history, direct_frame=-1)
        self.fusion = nn.ModuleList(
            CrossBlock(cfg.width, cfg.heads) for _ in range(cfg.fusion_layers)
        )
        queries = cfg.chunk * cfg.action_dims + cfg.chunk + 1
        self.queries = nn.Parameter(torch.randn(queries, cfg.width) * 0.5)
        self.decoder_cross = nn.ModuleList(
            CrossBlock(cfg.width, cfg.heads) for _ in range(cfg.decoder_layers)
        )
        self.decoder_self = nn.ModuleList(
            SelfBlock(cfg.width, cfg.heads, ratio=2) for _ in range(cfg.decoder_layers)
        )
        self.norm = nn.LayerNorm(cfg.width)
        self.action_head = nn.Linear(cfg.width, cfg.bins)
        self.binary_head = nn.Linear(cfg.width, 1)
        if cfg.proprioception:
            self.proprioception = nn.Sequential(
                nn.Linear(4, 2 * cfg.width),
                nn.GELU(),
                nn.Linear(2 * cfg.width, 4 * cfg.width),
            )
        self.register_buffer("center", torch.tensor(WORKSPACE_CENTER_M), persistent=False)

    def goal(self, source: Tensor) -> Tensor:
        """Goal tokens [B, N, W].

        Args:
            source: features of the video's frames [B, 16, K, W]; conditioned on language, the
                instruction's words int64 [B, WORDS].
        """
        if self.conditioning == "language":
            return self.instruction_encoder(source)
        if self.conditioning == "goal_image":
            source = source[:, -1:].expand_as(source)
        return self.goal_resampler(source)

    def embed_proprioception(self, proprioception: Tensor) -> Tensor:
        """[B, H, 4] positions [m] and gripper opening -> 4 tokens [B, 4, W].

        Only the newest measurement enters: given its past motion, a policy copies that motion
        and looks at nothing else (measured; see docs/log.md).
        """
        newest = proprioception[:, -1]
        position = (newest[:, :3] - self.center) / WORKSPACE_SCALE_M
        state = torch.cat([position, newest[:, 3:] * 2.0 - 1.0], dim=-1)
        return self.proprioception(state).view(-1, 4, self.cfg.width)

    def act(self, robot: Tensor, goal: Tensor, proprioception: Tensor | None) -> ActionLogits:
        """robot tokens [B, N, W], goal tokens [B, N, W], proprioception [B, H, 4]."""
        cfg = self.cfg
        x = robot
        if proprioception is not None:
            x = torch.cat([x, self.embed_proprioception(proprioception).to(x.dtype)], dim=1)
        for block in self.fusion:
            x = block(x, goal)
        context = torch.cat([x, goal], dim=1)
        y = self.queries.expand(robot.shape[0], -1, -1)
        for cross, own in zip(self.decoder_cross, self.decoder_self, strict=True):
            y = own(cross(y, context))
        y = self.norm(y)
        actions = cfg.chunk * cfg.action_dims
        action = self.action_head(y[:, :actions])
        binary = self.binary_head(y[:, actions:]).squeeze(-1)
        return ActionLogits(
            action.view(-1, cfg.chunk, cfg.action_dims, cfg.bins),
            binary[:, : cfg.chunk],
            binary[:, cfg.chunk],
        )
