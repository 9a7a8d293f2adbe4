"""The networks: what is in the scene, where hand and object go, how it looks when they have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .scenes import IMAGE_SIZE, MOMENTS, PICTURE_SIZE

PATH = 6  # hand x, y, z [m], opening, object displacement x, y [px]


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the networks."""

    tasks: tuple[str, ...]  # ids; their order is the networks' vocabulary
    planner_channels: tuple[int, int, int] = (24, 48, 96)  # at strides 4, 8, 16
    keypoints: int = 32
    hidden: int = 192
    painter_channels: tuple[int, int, int] = (24, 48, 96)  # at strides 4, 8, 16 of the scene
    eraser_channels: tuple[int, int, int] = (12, 24, 32)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(4, outputs), nn.SiLU()
    )


def grid(size: int) -> Tensor:
    """Pixel centres in [-1, 1], (x, y), float [2, size, size]."""
    ticks = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x, y])


def _with_coordinates(picture: Tensor, coordinates: Tensor) -> Tensor:
    return torch.cat([picture, coordinates.expand(len(picture), -1, -1, -1)], dim=1)


def shrink(picture: Tensor) -> Tensor:
    """[B, 3, S, S] → [B, 3, P, P], each pixel the mean of those it stands for."""
    factor = picture.shape[-1] // PICTURE_SIZE
    return picture if factor == 1 else F.avg_pool2d(picture, factor)


def _grow(maps: Tensor, size: int) -> Tensor:
    factor = size / PICTURE_SIZE
    if factor == 1:
        return maps
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


class Plan(NamedTuple):
    """What will happen, over the moments of a motion."""

    path: Tensor  # [B, L, PATH]
    object_px: Tensor  # centre of the object that will move, (x, y) of the scene [B, 2]
    places: Tensor  # logits of where it is and of where it will end, on a grid [B, 2, G * G]


class Planner(nn.Module):
    """Scene and task → the motion of hand and object.

    Keypoints (centres of soft attention maps) say where things are; the motion is read off them,
    starting from the task's mean motion.
    """

    path_mean: Tensor
    path_std: Tensor
    coordinates: Tensor

    def __init__(self, cfg: NetworkConfig) -> None:
        super().__init__()
        self.cfg = cfg
        a, b, c = cfg.planner_channels
        count = len(cfg.tasks)
        self.stem = nn.Sequential(nn.Conv2d(3, a, 4, 4), nn.GroupNorm(4, a), nn.SiLU())
        self.fine = nn.Sequential(_conv(a, b, 2), _conv(b, b))
        self.coarse = nn.Sequential(_conv(b, c, 2), _conv(c, c), nn.Conv2d(c, b, 1))
        self.merge = _conv(b, b)
        self.maps = nn.Conv2d(b, cfg.keypoints, 1)
        # Where the object is and where it will end are looked for; each task knows how it looks.
        self.place_query = nn.Embedding(count, 2 * b)
        self.offset = nn.Embedding(count, 4)
        nn.init.zeros_(self.offset.weight)
        self.read = nn.Sequential(
            nn.Linear(2 * cfg.keypoints + 4 + 16, cfg.hidden),
            nn.SiLU(),
            nn.Linear(cfg.hidden, cfg.hidden),
            nn.SiLU(),
        )
        self.task = nn.Embedding(count, 16)
        # A last layer for each task: what moves how is the task.
        self.weight = nn.Parameter(torch.randn(count, cfg.hidden, MOMENTS * PATH) * 0.02)
        self.bias = nn.Parameter(torch.zeros(count, MOMENTS * PATH))
        self.register_buffer("path_mean", torch.zeros(count, MOMENTS, PATH))
        self.register_buffer("path_std", torch.ones(count, MOMENTS, PATH))
        self.register_buffer("coordinates", grid(IMAGE_SIZE // 8).reshape(2, -1))

    def features(self, scene: Tensor) -> Tensor:
        """Scene float [B, 3, S, S] in [0, 1] → [B, C, S/8, S/8]."""
        fine = self.fine(self.stem(scene - 0.5))
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        return self.merge(fine + coarse)

    def plan(self, features: Tensor, task: Tensor) -> Plan:
        """The motion for tasks int [B]."""
        maps = self.maps(features).flatten(2)
        points = maps.softmax(-1) @ self.coordinates.T  # [B, K, 2]
        queries = self.place_query(task).unflatten(1, (2, -1))
        places = torch.einsum("bchw,bqc->bqhw", features, queries).flatten(2)
        where = (places.softmax(-1) @ self.coordinates.T).flatten(1) + 0.1 * self.offset(task)
        read = self.read(torch.cat([points.flatten(1), where, self.task(task)], dim=1))
        residual = torch.einsum("bh,bho->bo", read, self.weight[task]) + self.bias[task]
        residual = residual.reshape(-1, MOMENTS, PATH)
        path = self.path_mean[task] + self.path_std[task] * residual
        return Plan(path, (where[:, :2] + 1) * (IMAGE_SIZE / 2) - 0.5, places)


class Recognizer(nn.Module):
    """Which tasks could be done in a picture; none, if it is no scene at all.

    Objects show in the strongest answers of the planner's features; that table, wall and camera
    are where they should be, in the features' means over a coarse grid.
    """

    def __init__(self, cfg: NetworkConfig) -> None:
        super().__init__()
        channels = cfg.planner_channels[1]
        self.read = nn.Sequential(
            nn.Linear((1 + 4 * 4) * channels, 96), nn.SiLU(), nn.Linear(96, len(cfg.tasks))
        )

    def forward(self, features: Tensor) -> Tensor:
        """The planner's features [B, C, S/8, S/8] → logits [B, tasks]."""
        layout = F.avg_pool2d(features, features.shape[-1] // 4).flatten(1)
        return self.read(torch.cat([features.amax(dim=(2, 3)), layout], dim=1))


class Eraser(nn.Module):
    """Paints the robot's arm out of a scene."""

    coordinates: Tensor

    def __init__(self, cfg: NetworkConfig) -> None:
        super().__init__()
        a, b, c = cfg.eraser_channels
        self.down1, self.down2, self.down3 = _conv(5, a, 2), _conv(a, b, 2), _conv(b, c, 2)
        self.up2, self.up1 = _conv(c + b, b), _conv(b + a, a)
        self.out = nn.Conv2d(a, 4 * 4, 3, 1, 1)
        self.register_buffer("coordinates", grid(PICTURE_SIZE))

    def forward(self, scene: Tensor) -> Tensor:
        """Scene [B, 3, S, S] in [0, 1], of any multiple of PICTURE_SIZE → without the robot."""
        small = shrink(scene)
        x1 = self.down1(_with_coordinates(small - 0.5, self.coordinates))
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        y = self.up2(torch.cat([F.interpolate(x3, scale_factor=2.0), x2], 1))
        y = self.up1(torch.cat([F.interpolate(y, scale_factor=2.0), x1], 1))
        out = _grow(F.pixel_shuffle(self.out(y), 2), scene.shape[-1])
        mask = (4 * out[:, 3:]).sigmoid()
        return (scene + mask * ((out[:, :3] + 0.5) - scene)).clamp(0, 1)


class Encoded(NamedTuple):
    """A plate's features, made once for all frames."""

    fine: Tensor
    middle: Tensor
    coarse: Tensor


class Shown(NamedTuple):
    """A moment of the scene, without the hand."""

    picture: Tensor  # [B, 3, S, S] in [0, 1]
    depth_m: Tensor  # [B, S', S'] on a grid of PICTURE_SIZE


class ScenePainter(nn.Module):
    """The scene after its object has moved: kept, carried along with the object, or painted."""

    coordinates: Tensor
    middle_grid: Tensor
    coarse_grid: Tensor

    def __init__(self, cfg: NetworkConfig) -> None:
        super().__init__()
        a, b, c = cfg.painter_channels
        self.down1, self.down2, self.down3 = _conv(5, a, 2), _conv(a, b, 2), _conv(b, c, 2)
        condition = 8
        self.bottom = _conv(c + condition, c)
        self.film = nn.Embedding(len(cfg.tasks), 2 * c)
        nn.init.zeros_(self.film.weight)
        self.deep = _conv(c, c)
        self.to_middle = nn.Conv2d(c, b, 1)
        self.middle1, self.middle2 = _conv(2 * b + condition, b), _conv(b, b)
        self.to_fine = nn.Conv2d(b, a, 1)
        self.fine = _conv(2 * a, a)
        # Weights of kept, carried and painted; colour; flow of the carried part; depth.
        self.out = nn.Conv2d(a, 4 * 9, 3, 1, 1)
        self.register_buffer("coordinates", grid(PICTURE_SIZE))
        self.register_buffer("middle_grid", grid(PICTURE_SIZE // 4))
        self.register_buffer("coarse_grid", grid(PICTURE_SIZE // 8))

    def encode(self, plate: Tensor) -> Encoded:
        """Plate [B, 3, S, S] in [0, 1], of any multiple of PICTURE_SIZE."""
        fine = self.down1(_with_coordinates(shrink(plate) - 0.5, self.coordinates))
        middle = self.down2(fine)
        return Encoded(fine, middle, self.down3(middle))

    def forward(
        self, plate: Tensor, encoded: Encoded, task: Tensor, start_px: Tensor, moved_px: Tensor
    ) -> Shown:
        """The scene with the object's centre moved from start_px [B, 2] by moved_px [B, 2]."""
        start = (start_px + 0.5) * (2 / IMAGE_SIZE) - 1
        shift = moved_px * (2 / IMAGE_SIZE)
        coarse = self.bottom(torch.cat([encoded.coarse, _where(self.coarse_grid, start, shift)], 1))
        scale, offset = self.film(task)[:, :, None, None].chunk(2, dim=1)
        coarse = self.deep(coarse * (1 + scale) + offset) + coarse
        y = F.interpolate(self.to_middle(coarse), scale_factor=2.0)
        y = torch.cat([y, encoded.middle, _where(self.middle_grid, start, shift)], 1)
        y = self.middle2(self.middle1(y))
        y = torch.cat([F.interpolate(self.to_fine(y), scale_factor=2.0), encoded.fine], 1)
        out = F.pixel_shuffle(self.out(self.fine(y)), 2)
        depth = 0.6 + F.softplus(out[:, 8])
        size = plate.shape[-1]
        out = _grow(out, size)
        keep, carry, paint = (3 * out[:, :3]).softmax(dim=1).split(1, dim=1)
        flow = 0.1 * out[:, 6:8] - shift[:, :, None, None]
        where = (self._grid_of(size) + flow).permute(0, 2, 3, 1)
        carried = F.grid_sample(plate, where, padding_mode="border", align_corners=False)
        picture = keep * plate + carry * carried + paint * (out[:, 3:6] + 0.5)
        return Shown(picture.clamp(0, 1), depth)

    def _grid_of(self, size: int) -> Tensor:
        return self.coordinates if size == PICTURE_SIZE else grid(size).to(self.coordinates.device)


def _where(cells: Tensor, start: Tensor, shift: Tensor) -> Tensor:
    """Maps [B, 8, g, g] of where the object was and is: two blobs of each, two constant."""
    maps = []
    for centre in (start, start + shift):
        squared = (cells - centre[:, :, None, None]).square().sum(1, keepdim=True)
        maps += [torch.exp(-squared / 0.01), torch.exp(-squared / 0.1)]
    constant = (4 * shift)[:, :, None, None].expand(-1, -1, *cells.shape[1:])
    length = (8 * shift.norm(dim=1, keepdim=True))[:, :, None, None]
    fixed = torch.cat([constant, length.expand(-1, 1, *cells.shape[1:])], 1)
    return torch.cat([*maps, fixed, torch.ones_like(fixed[:, :1])], 1)


class Networks(NamedTuple):
    """All of them; each is trained by itself, in this order."""

    planner: Planner
    recognizer: Recognizer
    eraser: Eraser
    painter: ScenePainter


def make_networks(cfg: NetworkConfig) -> Networks:
    """Untrained."""
    return Networks(Planner(cfg), Recognizer(cfg), Eraser(cfg), ScenePainter(cfg))


def saved_network(path: Path) -> dict[str, Any]:
    """A trained network: `tasks`, `weights`, `training`. Raises ValueError if it is not there."""
    try:
        weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path} is not there: give {path.stem} some minutes") from None
    return weights
