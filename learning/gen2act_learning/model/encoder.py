"""Frame encoder chi and the Perceiver-Resamplers (paper, appendix 5.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .layers import Attention, SelfBlock, feed_forward, sine_positions_2d


class Keypoints(nn.Module):
    """Spatial softmax: where in the image each learned channel fires, as tokens.

    Patches tell positions to a few centimetres; an expectation over the fine grid is exact to
    millimetres and is learned within minutes.
    """

    grid: Tensor  # [s * s, 2] positions in [-1, 1]

    def __init__(self, channels: int, points: int, tokens: int, width: int, side: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, points, 3, padding=1)
        self.norm = nn.GroupNorm(4, points)
        self.wide = nn.Conv2d(points, points, 3, padding=2, dilation=2)
        self.embed = nn.Linear(3 * points, tokens * width)
        self.tokens = tokens
        axis = (torch.arange(side) + 0.5) / side * 2 - 1
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps [B, C, s, s] -> tokens [B, n, W]."""
        maps = self.wide(nn.functional.gelu(self.norm(self.near(x)))).flatten(2)
        place = torch.softmax(2.0 * maps, dim=-1) @ self.grid
        strength = torch.logsumexp(maps, dim=-1, keepdim=True) - 6.0
        flat = torch.cat([place * 2.0, strength * 0.2], dim=-1).flatten(1)
        return self.embed(flat).unflatten(1, (self.tokens, -1))


class FrameEncoder(nn.Module):
    """ViT with a small convolutional stem and keypoint tokens, shared by both videos.

    uint8 [B, S, S, 3] RGB -> features [B, K, W] with K = (S / 32)^2 + keypoint tokens.
    """

    positions: Tensor  # [patches, W]

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        a, b = cfg.stem_channels
        self.stem1 = nn.Conv2d(3, a, 4, stride=4)
        self.norm1 = nn.GroupNorm(4, a)
        self.stem2 = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(4, b)
        self.patch = nn.Conv2d(b, cfg.width, 4, stride=4)
        self.keypoints = Keypoints(
            b, cfg.keypoints, cfg.keypoint_tokens, cfg.width, cfg.image_size // 8
        )
        self.keypoint_norm = nn.LayerNorm(cfg.width)
        # Normalised before positions are added: a small patch output would be drowned by them.
        self.patch_norm = nn.LayerNorm(cfg.width)
        self.register_buffer("positions", sine_positions_2d(cfg.grid, cfg.width), persistent=False)
        self.position_gain = nn.Parameter(torch.tensor(0.5))
        self.blocks = nn.ModuleList(SelfBlock(cfg.width, cfg.heads) for _ in range(cfg.vit_layers))
        self.norm = nn.LayerNorm(cfg.width)

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0)

    def encode(self, x: Tensor) -> Tensor:
        """Float images [B, 3, S, S] in [-1, 1] -> features [B, K, W]."""
        x = nn.functional.gelu(self.norm1(self.stem1(x)))
        x = nn.functional.gelu(self.norm2(self.stem2(x)))
        points = self.keypoint_norm(self.keypoints(x))
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.patch_norm(x) + self.position_gain * self.positions
        x = torch.cat([x, points], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class ResamplerLayer(nn.Module):
    """Latents attend to frame tokens, gated, then a feed-forward."""

    def __init__(self, cfg: ModelConfig, frames: int) -> None:
        super().__init__()
        self.bound = cfg.bound_tokens
        self.attention = Attention(cfg.width, cfg.heads)
        self.norm = nn.LayerNorm(cfg.width)
        # Time enters after projection, so a frame's keys and values are independent of its
        # place in the history and may be computed once per frame.
        self.time = nn.Parameter(torch.randn(frames, 1, 2 * cfg.width) * 0.3)
        self.gate = nn.Parameter(torch.tensor(1.0))  # not zero: it is the only path of the video
        self.ff_norm = nn.LayerNorm(cfg.width)
        self.ff = feed_forward(cfg.width, 2)

    def forward(self, latents: Tensor, kv: Tensor) -> Tensor:
        """latents [B, N, W]; kv [B, T, K, 2W] projected frame tokens -> [B, N, W]."""
        batch, frames, _, width = kv.shape
        x = self.norm(latents)
        timed = kv + self.time.to(kv.dtype)
        single = x[:, : self.bound].reshape(batch * frames, -1, width // 2)
        bound = self.attention.attend(single, timed.flatten(0, 1))
        free = self.attention.attend(x[:, self.bound :], timed.flatten(1, 2))
        y = torch.cat([bound.reshape(batch, self.bound, width // 2), free], dim=1)
        latents = latents + torch.tanh(self.gate) * y
        return latents + self.ff(self.ff_norm(latents))


def _attention(layer: nn.Module) -> Attention:
    assert isinstance(layer, ResamplerLayer)  # nn.ModuleList forgets the type
    return layer.attention


class Resampler(nn.Module):
    """Perceiver-Resampler: T frames of K tokens -> N tokens (and one frame's own, if asked).

    The first ``bound_tokens`` see one frame each, in order of time; the others see all frames.
    Latents that see everything average positions away for a long time before they learn to
    look; bound ones carry "where in frame t" from the start.
    """

    def __init__(self, cfg: ModelConfig, frames: int, direct_frame: int) -> None:
        super().__init__()
        self.direct_frame = direct_frame
        self.direct = None
        if cfg.direct_tokens:
            self.direct = nn.Sequential(nn.Linear(cfg.width, cfg.width), nn.LayerNorm(cfg.width))
        if cfg.bound_tokens % frames:
            raise ValueError(f"{cfg.bound_tokens} bound tokens do not divide over {frames} frames")
        self.latents = nn.Parameter(torch.randn(cfg.tokens, cfg.width) * 0.1)
        layers = [ResamplerLayer(cfg, frames) for _ in range(cfg.resampler_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(cfg.width)

    def project(self, features: Tensor) -> Tensor:
        """Per-frame keys and values of every layer: [..., K, W] -> [L, ..., K, 2W]."""
        return torch.stack([_attention(layer).project(features) for layer in self.layers])

    def resample(self, kv: Tensor) -> Tensor:
        """kv [L, B, T, K, 2W] -> tokens [B, N, W]."""
        z = self.latents.expand(kv.shape[1], -1, -1)
        for layer, layer_kv in zip(self.layers, kv, strict=True):
            z = layer(z, layer_kv)
        return self.norm(z)

    def join(self, tokens: Tensor, frame: Tensor) -> Tensor:
        """Resampled tokens [B, N, W], then those of one frame's features [B, K, W] if in use."""
        return tokens if self.direct is None else torch.cat([tokens, self.direct(frame)], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.resample(self.project(features))
        return self.join(tokens, features[:, self.direct_frame])
