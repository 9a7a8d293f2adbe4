"""Training-only heads: point tracks (paper, section 3.2), and where the hand is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .layers import CrossBlock, SelfBlock


class TrackTransformer(nn.Module):
    """psi: points of the first frame, that frame's features and a stream's tokens -> tracks.

    Predicted as displacement from the first frame, in units of the image side.
    """

    frequencies: Tensor  # [6], of the points' sine embedding

    def __init__(self, cfg: ModelConfig, frames: int) -> None:
        super().__init__()
        self.frames = frames
        frequencies = 2.0 ** torch.arange(6) * torch.pi
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Linear(2 + 4 * 6, cfg.width)
        self.kind = nn.Parameter(torch.randn(3, cfg.width) * 0.1)
        self.blocks = nn.ModuleList(
            SelfBlock(cfg.width, cfg.track_heads, ratio=2) for _ in range(cfg.track_layers)
        )
        self.norm = nn.LayerNorm(cfg.width)
        self.head = nn.Linear(cfg.width, frames * 2)
        nn.init.normal_(self.head.weight, std=0.01)  # points stand still at first

    def forward(self, points: Tensor, features: Tensor, tokens: Tensor) -> Tensor:
        """points [B, P, 2] in [0, 1]; features [B, K, W]; tokens [B, N, W] -> [B, P, T, 2]."""
        wave = (points[..., None] * self.frequencies).flatten(-2)
        p = self.embed(torch.cat([points * 2 - 1, wave.sin(), wave.cos()], dim=-1))
        x = torch.cat([p + self.kind[0], features + self.kind[1], tokens + self.kind[2]], dim=1)
        for block in self.blocks:
            x = block(x)
        y = self.head(self.norm(x[:, : points.shape[1]]))
        return y.view(*points.shape[:2], self.frames, 2)


class Auxiliary(nn.Module):
    """Dense signals that get a network without pre-training off its plateau."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.track_goal = TrackTransformer(cfg, cfg.goal_frames)
        self.track_robot = TrackTransformer(cfg, cfg.history)
        self.cfg = cfg
        per_frame = cfg.bound_tokens // cfg.goal_frames * cfg.width
        self.path_head = nn.Sequential(
            nn.Linear(per_frame, cfg.width), nn.GELU(), nn.Linear(cfg.width, 4)
        )
        self.contact_queries = nn.Parameter(torch.randn(4, cfg.width) * 0.5)
        self.contact = CrossBlock(cfg.width, cfg.heads)
        self.contact_head = nn.Linear(4 * cfg.width, 6)
        self.locate_head = nn.Linear(cfg.width, 4)

    def hand_path(self, goal: Tensor) -> Tensor:
        """Goal tokens [B, N, W] -> hand position (scaled) and closedness per frame [B, 16, 4]."""
        bound = goal[:, : self.cfg.bound_tokens]
        return self.path_head(bound.reshape(goal.shape[0], self.cfg.goal_frames, -1))

    def contact_points(self, goal: Tensor) -> Tensor:
        """Goal tokens -> where the robot first closes its gripper and where it ends [B, 2, 3]."""
        query = self.contact_queries.expand(goal.shape[0], -1, -1)
        return self.contact_head(self.contact(query, goal).flatten(1)).view(-1, 2, 3)

    def locate(self, features: Tensor) -> Tensor:
        """Frames' features [B, K, W] -> scaled position and closedness of keypoints [B, n, 4]."""
        return self.locate_head(features[:, -self.cfg.keypoints :])
