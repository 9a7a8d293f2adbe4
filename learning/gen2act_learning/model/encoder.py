"""Frame encoder chi and the Perceiver-Resamplers (paper, appendix 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from .layers import Attention, SelfBlock, feed_forward, sine_positions_2d


def _conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    padding = 0 if size == stride else size // 2
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(4, outputs), nn.ReLU())


class Encoded(NamedTuple):
    """What the encoder says about B frames."""

    features: Tensor  # [B, K, W] pooled patches, then keypoints
    heat: Tensor  # [B, n, s, s] log-scores of where each keypoint is, on a grid of stride 8
    place: Tensor  # [B, n, 2] their positions (x, y) in the picture, in parts of its side


class FrameEncoder(nn.Module):
    """ViT with a convolutional stem and keypoints, shared by both videos.

    Patches tell what is where to a few centimetres. A keypoint is found as the expectation of a
    spatial softmax on a fine grid, exact to millimetres, and its token carries that position and
    the features found there.

    uint8 [B, S, S, 3] RGB -> features [B, K, W] (see ``ModelConfig.frame_tokens``).
    """

    positions: Tensor  # [patches, W]
    cells: Tensor  # [s * s, 2] centres of the fine grid, in parts of the picture's side

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        a, b, c = cfg.stem_channels
        self.stem4 = _conv(3, a, 4, 4)
        self.stem8 = _conv(a, b, 3, 2)
        self.stem16 = nn.Sequential(_conv(b, c, 3, 2), _conv(c, c, 3, 1))
        self.patch = nn.Conv2d(c, cfg.width, 2, stride=2)
        # Normalised before positions are added: a small patch output would be drowned by them.
        self.patch_norm = nn.LayerNorm(cfg.width)
        self.register_buffer("positions", sine_positions_2d(cfg.grid, cfg.width), persistent=False)
        self.position_gain = nn.Parameter(torch.tensor(0.5))
        self.blocks = nn.ModuleList(SelfBlock(cfg.width, cfg.heads) for _ in range(cfg.vit_layers))
        self.norm = nn.LayerNorm(cfg.width)
        self.from16 = nn.Conv2d(c, b, 1)
        self.from32 = nn.Linear(cfg.width, b)
        self.fine = _conv(b, b, 3, 1)
        self.heat = nn.Conv2d(b, cfg.keypoints, 1)
        self.kind = nn.Parameter(torch.randn(cfg.keypoints, cfg.width) * 0.5)
        self.keypoint = nn.Linear(b + 3, cfg.width)
        self.keypoint_norm = nn.LayerNorm(cfg.width)
        side = cfg.image_size // 8
        axis = (torch.arange(side) + 0.5) / side
        cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0).features

    def encode(self, x: Tensor) -> Encoded:
        """Float images [B, 3, S, S] in [-1, 1]."""
        at8 = self.stem8(self.stem4(x))
        at16 = self.stem16(at8)
        patches = self.patch(at16)
        grid = patches.shape[-2:]
        patches = self.patch_norm(patches.flatten(2).transpose(1, 2))
        patches = patches + self.position_gain * self.positions
        for block in self.blocks:
            patches = block(patches)
        context = self.from32(patches).transpose(1, 2).unflatten(2, grid)
        at16 = self.from16(at16) + F.interpolate(context, scale_factor=2.0)
        fine = self.fine(at8 + F.interpolate(at16, scale_factor=2.0))
        heat = self.heat(fine)
        weight = torch.softmax(heat.flatten(2), dim=-1)
        place = weight @ self.cells
        found = weight @ fine.flatten(2).transpose(1, 2)
        sharpness = weight.amax(-1, keepdim=True)
        points = self.keypoint(torch.cat([found, place * 4.0 - 2.0, sharpness], dim=-1))
        points = self.keypoint_norm(points + self.kind)
        pooled = F.avg_pool2d(
            self.norm(patches).transpose(1, 2).unflatten(2, grid), 3, 2, 1, count_include_pad=False
        )
        features = torch.cat([pooled.flatten(2).transpose(1, 2), points], dim=1)
        return Encoded(features, heat, place)


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
        self.keypoints = cfg.keypoints
        self.direct = None
        if cfg.direct_tokens:
            self.direct = nn.Sequential(nn.Linear(cfg.width, cfg.width), nn.LayerNorm(cfg.width))
        if cfg.bound_tokens % frames:
            raise ValueError(f"{cfg.bound_tokens} bound tokens do not divide over {frames} frames")
        self.latents = nn.Parameter(torch.randn(cfg.tokens, cfg.width) * 0.1)
        layers = [ResamplerLayer(cfg, frames) for _ in range(cfg.resampler_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(cfg.width)

    def project(self, features: Tensor) -> list[Tensor]:
        """Per-frame keys and values of each layer: [..., K, W] -> [..., K, 2W]."""
        return [_attention(layer).project(features) for layer in self.layers]

    def resample(self, kv: Sequence[Tensor]) -> Tensor:
        """Of each layer [B, T, K, 2W] -> tokens [B, N, W]."""
        z = self.latents.expand(kv[0].shape[0], -1, -1)
        for layer, layer_kv in zip(self.layers, kv, strict=True):
            z = layer(z, layer_kv)
        return self.norm(z)

    def join(self, tokens: Tensor, frame: Tensor) -> Tensor:
        """Resampled tokens [B, N, W], then one frame's [B, K, W] keypoints if in use."""
        if self.direct is None:
            return tokens
        return torch.cat([tokens, self.direct(frame[:, -self.keypoints :])], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.resample(self.project(features))
        return self.join(tokens, features[:, self.direct_frame])
