"""Instruction to goal tokens: the language baseline, in the place of the video's resampler."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen2act_policy.words import BUCKETS, WORDS

from ..config import ModelConfig
from .layers import CrossBlock, SelfBlock

LAYERS = 2


class InstructionEncoder(nn.Module):
    """Words see each other, then latents read them.

    Words are the numbers of :mod:`gen2act_policy.words`: learned from the instructions of the
    data alone, so a word that none of them has means nothing.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(BUCKETS + 1, cfg.width)
        self.positions = nn.Parameter(torch.randn(WORDS, cfg.width) * 0.1)
        self.blocks = nn.ModuleList(SelfBlock(cfg.width, cfg.heads) for _ in range(LAYERS))
        self.latents = nn.Parameter(torch.randn(cfg.stream_tokens, cfg.width) * 0.5)
        self.read = CrossBlock(cfg.width, cfg.heads)
        self.norm = nn.LayerNorm(cfg.width)

    def forward(self, words: Tensor) -> Tensor:
        """int64 [B, WORDS] -> goal tokens [B, N, W], as many as a video gives."""
        x = self.embed(words) + self.positions
        for block in self.blocks:
            x = block(x)
        latents = self.latents.expand(words.shape[0], -1, -1)
        return self.norm(self.read(latents, x))
