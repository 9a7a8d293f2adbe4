"""Attention blocks shared by every part of the policy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with query/key normalisation.

    Without the normalisation attention starts as a plain average and the signal of one frame is
    drowned by position embeddings (see docs/decisions).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.full((heads, 1, 1), 2.0))

    def project(self, x: Tensor) -> Tensor:
        """Keys and values of ``x`` [..., W] -> [..., 2W]; may be cached per frame."""
        return self.kv(x)

    def attend(self, x: Tensor, kv: Tensor) -> Tensor:
        """Queries from ``x`` [B, Q, W] over projected ``kv`` [B, K, 2W] -> [B, Q, W]."""
        d = x.shape[-1] // self.heads
        q = self.q(x).unflatten(-1, (self.heads, d)).transpose(1, 2)
        k, v = (part.unflatten(-1, (self.heads, d)) for part in kv.chunk(2, dim=-1))
        # Written out, since the fused attention of torch becomes more ONNX nodes than this, and a
        # tick of the small policy is nodes rather than arithmetic (docs/log.md).
        q = unit(q, dim=-1) * (self.gain * d**0.5).to(q.dtype)
        weights = (q @ unit(k.permute(0, 2, 3, 1), dim=-2)).softmax(dim=-1)
        return self.out((weights @ v.transpose(1, 2)).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.attend(x, self.project(context))


def unit(x: Tensor, dim: int) -> Tensor:
    """Vectors along ``dim`` at length 1."""
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + 1e-6)


def feed_forward(width: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
    )


class SelfBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.ff = feed_forward(width, ratio)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y)
        return x + self.ff(self.norm2(x))


class CrossBlock(nn.Module):
    """Pre-norm cross-attention block: ``x`` attends to ``context``."""

    def __init__(self, width: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.ff = feed_forward(width, ratio)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), self.norm_context(context))
        return x + self.ff(self.norm2(x))


def sine_positions_2d(grid: int, width: int) -> Tensor:
    """Fixed 2-D sine position embeddings [grid*grid, width]."""
    quarter = width // 4
    frequency = torch.exp(torch.arange(quarter) * (-math.log(100.0) / quarter)) * math.pi
    axis = (torch.arange(grid) + 0.5) / grid
    angle = axis[:, None] * frequency[None, :]
    wave = torch.cat([angle.sin(), angle.cos()], dim=-1)
    rows = wave[:, None, :].expand(grid, grid, -1)
    cols = wave[None, :, :].expand(grid, grid, -1)
    return torch.cat([rows, cols], dim=-1).reshape(grid * grid, width)
