"""Trains the video model's networks, each alone and within a budget of processor time.

Processor time, not the clock: what is trained is then the same on a busy machine.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen2act_sim import TASKS

from .networks import (
    Encoded,
    Eraser,
    NetworkConfig,
    Planner,
    Recognizer,
    ScenePainter,
    make_networks,
    saved_network,
    shrink,
)
from .scenes import IMAGE_SIZE, Scene, load

_HAND_UNIT_M = 0.05
_OBJECT_UNIT_PX = 10.0


@dataclass(frozen=True)
class TrainConfig:
    """One run. Stored with the weights."""

    data: tuple[str, ...]
    out: str
    # Of processor time; 0 keeps what the run's folder holds of that network.
    planner_minutes: float = 10.0
    recognizer_minutes: float = 2.0
    eraser_minutes: float = 3.0
    painter_minutes: float = 20.0
    lr: float = 2e-3
    warmup_steps: int = 50
    batch: int = 32  # scenes a step; the painter takes a third of them, with three moments each
    average: float = 0.99
    seed: int = 0
    threads: int = 1
    keep_out: int = 2  # scenes of each task for validation
    start_from: str = ""  # folder of an earlier run, perhaps of fewer tasks


@dataclass(frozen=True)
class Scenes:
    """Many scenes as tensors, on disk order; images stay uint8."""

    task: Tensor  # [n]
    scene: Tensor  # [n, 3, S, S]
    small_scene: Tensor  # [n, 3, P, P]
    small_plate: Tensor  # [n, 3, P, P]
    path: Tensor  # [n, L, PATH]
    start_px: Tensor  # [n, 2]
    moment: Tensor  # [n, K]
    pictures: Tensor  # [n, K, 3, P, P]
    depths_m: Tensor  # [n, K, P, P] float16

    def __len__(self) -> int:
        return len(self.task)

    def part(self, rows: Tensor) -> Scenes:
        return Scenes(*(getattr(self, name)[rows] for name in Scenes.__dataclass_fields__))


def path_of(scene: Scene) -> np.ndarray:
    """Hand, opening, object displacement: float32 [L, PATH]."""
    moved = scene.object_px - scene.object_px[0]
    return np.concatenate([scene.hand_m, scene.opening[:, None], moved], axis=1)


def read_scenes(paths: Iterable[Path], tasks: tuple[str, ...]) -> Scenes:
    """Raises ValueError if there is none."""
    found = [load(path) for path in paths]
    if not found:
        raise ValueError("no scenes; make some first (gen2act-imagination scenes)")

    def images(name: str) -> Tensor:
        stacked = np.stack([getattr(scene, name) for scene in found])
        return torch.from_numpy(stacked).movedim(-1, -3).contiguous()

    scenes = images("scene")
    return Scenes(
        torch.tensor([tasks.index(scene.task) for scene in found]),
        scenes,
        _shrunk(scenes),
        _shrunk(images("plate")),
        torch.from_numpy(np.stack([path_of(scene) for scene in found])),
        torch.from_numpy(np.stack([scene.object_px[0] for scene in found])),
        torch.from_numpy(np.stack([scene.picture_moment for scene in found])),
        images("pictures"),
        torch.from_numpy(np.stack([scene.depths_m for scene in found])),
    )


def _shrunk(images: Tensor) -> Tensor:
    return torch.cat([(255 * shrink(as_float(i))).round().byte() for i in images.split(64)])


def scene_files(folders: Iterable[str]) -> list[Path]:
    """Complete scenes, in a fixed order."""
    return sorted(p for folder in folders for p in Path(folder).glob("[!.]*.npz"))


def as_float(images: Tensor) -> Tensor:
    return images.float() / 255.0


def jitter(images: Tensor, strength: float = 0.12) -> Tensor:
    """Another exposure and white balance for each picture [B, 3, S, S]."""
    gain = 1 + strength * (2 * torch.rand(len(images), 3, 1, 1) - 1)
    lift = 0.5 * strength * (2 * torch.rand(len(images), 1, 1, 1) - 1)
    return (images * gain + lift).clamp(0, 1)


def same_scene(tasks: tuple[str, ...]) -> Tensor:
    """Which tasks share a scene: float [tasks, tasks]."""
    names = [TASKS[task].scene for task in tasks]
    return torch.tensor([[float(a == b) for b in names] for a in names])


def planner_loss(planner: Planner, batch: Scenes) -> tuple[Tensor, dict[str, float]]:
    """Motion, and place of the object."""
    features = planner.features(jitter(as_float(batch.scene)))
    plan = planner.plan(features, batch.task)
    error = (plan.path - batch.path).abs()
    hand = error[..., :3].mean()
    moved = error[..., 4:].mean()
    motion = hand / _HAND_UNIT_M + error[..., 3].mean() + moved / _OBJECT_UNIT_PX
    size = IMAGE_SIZE // 8
    cells = (planner.coordinates.T + 1) * (IMAGE_SIZE / 2) - 0.5  # [G * G, 2] px
    ends = torch.stack([batch.start_px, batch.start_px + batch.path[:, -1, 4:]], dim=1)
    squared = (cells - ends[:, :, None]).square().sum(-1)
    target = torch.softmax(-squared / (2 * size), dim=-1)
    located = -(target * plan.places.log_softmax(-1)).sum(-1).mean()
    place = (plan.object_px - batch.start_px).abs().mean()
    loss = motion + 0.1 * located + place / _OBJECT_UNIT_PX
    return loss, {
        "hand_mm": 1000 * hand.item(),
        "moved_px": moved.item(),
        "object_px": place.item(),
        "opening": error[..., 3].mean().item(),
    }


def strange_pictures(scenes: Tensor) -> Tensor:
    """As many pictures [B, 3, S, S] in [0, 1] that are no scenes, some of them made from scenes.

    Colour gradients, noise of several sizes, scenes turned on their side or head, cut into tiles
    in another order, and enlarged parts of them.
    """
    kinds = torch.randint(5, (len(scenes),)).tolist()
    makers = (_gradient, _noise, _turned, _tiled, _enlarged)
    return torch.stack([makers[kind](one) for kind, one in zip(kinds, scenes, strict=True)])


def _gradient(scene: Tensor) -> Tensor:
    ends = torch.rand(2, 3, 1, 1) * torch.tensor([1.0, torch.rand(()).round()]).view(2, 1, 1, 1)
    along = torch.linspace(0, 1, scene.shape[-1]).expand(scene.shape[-2:])
    along = along if torch.rand(()) < 0.5 else along.T
    return (ends[0] + along * (ends[1] - ends[0])).abs().clamp(0, 1)


def _noise(scene: Tensor) -> Tensor:
    size = scene.shape[-1]
    picture = torch.rand(3, 1, 1).expand(3, size, size).clone()
    for cells in (2, 4, 8, 16, 32, 64):
        grey = torch.rand(()) < 0.5
        cloud = torch.randn(1, 1 if grey else 3, cells, cells) * 0.4 * torch.rand(())
        picture += F.interpolate(cloud, size=(size, size), mode="bilinear")[0]
    return picture.clamp(0, 1)


def _turned(scene: Tensor) -> Tensor:
    return torch.rot90(scene, int(torch.randint(1, 4, ())), (1, 2))


def _tiled(scene: Tensor) -> Tensor:
    side = scene.shape[-1] // 4
    tiles = scene.unfold(1, side, side).unfold(2, side, side).flatten(1, 2)
    tiles = tiles[:, torch.randperm(16)].unflatten(1, (4, 4))
    return tiles.permute(0, 1, 3, 2, 4).reshape(scene.shape)


def _enlarged(scene: Tensor) -> Tensor:
    size = scene.shape[-1]
    side = int(size * (0.3 + 0.3 * torch.rand(())))
    top, left = (int(torch.randint(size - side + 1, ())) for _ in range(2))
    part = scene[None, :, top : top + side, left : left + side]
    return F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False)[0]


def recognizer_loss(
    recognizer: Recognizer, batch: Scenes, planner: Planner, related: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Tasks that are possible, of scenes and of as many pictures that are none."""
    scenes = jitter(as_float(batch.scene), 0.25)
    with torch.no_grad():
        features = planner.features(torch.cat([scenes, strange_pictures(scenes)]))
    possible = related[batch.task]
    target = torch.cat([possible, torch.zeros_like(possible)])
    logits = recognizer(features)
    wrong = ((logits > 0) != (target > 0.5)).any(1).float()
    return F.binary_cross_entropy_with_logits(logits, target), {
        "scenes_misread": wrong[: len(scenes)].mean().item(),
        "others_taken_for_scenes": wrong[len(scenes) :].mean().item(),
    }


def eraser_loss(eraser: Eraser, batch: Scenes) -> tuple[Tensor, dict[str, float]]:
    """The plate, with weight where the robot is."""
    scene, plate = as_float(batch.small_scene), as_float(batch.small_plate)
    covered = _changed(scene, plate, 0.1)
    error = (eraser(scene) - plate).abs()
    loss = (error * (1 + 8 * _widened(covered))).mean()
    return loss, {"error": _mean_where(error, covered)}


def _changed(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """1 where any colour differs by more, else 0: [B, 1, P, P]."""
    return ((a - b).abs().amax(1, keepdim=True) > threshold).float()


def _widened(mask: Tensor) -> Tensor:
    return (F.avg_pool2d(mask, 5, 1, 2) > 0).float()


def _mean_where(error: Tensor, mask: Tensor) -> float:
    return ((error * mask).sum() / (error.shape[1] * mask.sum()).clamp_min(1)).item()


def painter_loss(
    painter: ScenePainter, batch: Scenes, moments: int = 3
) -> tuple[Tensor, dict[str, float]]:
    """Pictures at some moments of each scene, weighted where something changed."""
    rows = torch.arange(len(batch))[:, None]
    columns = torch.rand(batch.moment.shape).argsort(dim=1)[:, :moments]
    moved = batch.path[rows, batch.moment[rows, columns], 4:]
    target = as_float(batch.pictures[rows, columns]).flatten(0, 1)
    depth = batch.depths_m[rows, columns].float().flatten(0, 1).clamp(0.6, 1.6)
    plate = as_float(batch.small_plate)
    # The eraser's plate has passed a JPEG; a little noise stands for that.
    plate = (plate + 0.01 * torch.randn_like(plate)).clamp(0, 1)

    def each(x: Tensor) -> Tensor:
        return x.repeat_interleave(moments, dim=0)

    encoded = Encoded(*(each(maps) for maps in painter.encode(plate)))
    plate = each(plate)
    shown = painter(plate, encoded, each(batch.task), each(batch.start_px), moved.flatten(0, 1))
    error = (shown.picture - target).abs()
    changed = _changed(target, plate, 0.08)
    far = (shown.depth_m.clamp(0.6, 1.6) - depth).abs().mean()
    loss = (error * (1 + 8 * _widened(changed))).mean() + 0.2 * far
    return loss, {
        "changed": _mean_where(error, changed),
        "static": _mean_where((plate - target).abs(), changed),
        "depth_mm": 1000 * far.item(),
    }


Losses = Callable[[Scenes], tuple[Tensor, dict[str, float]]]


def fit(
    name: str, net: nn.Module, losses: Losses, data: Scenes, held: Scenes, cfg: TrainConfig
) -> nn.Module:
    """Trains for this part's minutes; returns the averaged network."""
    minutes = float(getattr(cfg, f"{name}_minutes"))
    batch = cfg.batch // 3 if name == "painter" else cfg.batch
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=1e-3, betas=(0.9, 0.98))
    start, step, told = time.process_time(), 0, -60.0
    rng = torch.Generator().manual_seed(cfg.seed)
    with (Path(cfg.out) / f"{name}.csv").open("w", newline="") as file:
        log = csv.writer(file)
        while (used := (time.process_time() - start) / (60 * minutes)) < 1:
            rate = cfg.lr * min(1.0, (step + 1) / cfg.warmup_steps)
            rate *= 0.5 + 0.5 * math.cos(math.pi * used) + 0.005
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = torch.randint(len(data), (batch,), generator=rng)
            loss, _ = losses(data.part(rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            keep = min(cfg.average, (step + 1) / (step + 10))
            with torch.no_grad():
                for old, new in zip(average.parameters(), net.parameters(), strict=True):
                    old.lerp_(new, 1 - keep)
            if time.process_time() - told > 30:
                told = time.process_time()
                shown = validate(average, losses, held, net)
                log.writerow([step, round(used * minutes, 2), *shown.values()])
                file.flush()
                text = "  ".join(f"{key} {value:.3f}" for key, value in shown.items())
                print(f"{name} {used * minutes:5.1f} min  step {step}  {text}", flush=True)
    return average.eval()


def validate(average: nn.Module, losses: Losses, held: Scenes, net: nn.Module) -> dict[str, float]:
    """Measures of the averaged weights on scenes kept out."""
    saved = copy.deepcopy(net.state_dict())
    net.load_state_dict(average.state_dict())
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        _, measures = losses(held)
    net.load_state_dict(saved)
    return measures


def adopt(net: nn.Module, tasks: tuple[str, ...], saved: dict[str, Any]) -> None:
    """Copies an earlier run's weights where they fit; each task's to the same task's place."""
    before = tuple(saved["tasks"])
    rows = [(tasks.index(task), before.index(task)) for task in tasks if task in before]
    for name, value in net.state_dict().items():
        old = saved["weights"].get(name)
        if old is None or value.shape[1:] != old.shape[1:]:
            continue
        if (len(value), len(old)) == (len(tasks), len(before)):
            for here, there in rows:
                value[here] = old[there]
        elif len(value) == len(old):
            value.copy_(old)


def train(cfg: TrainConfig) -> None:
    """Writes `<network>.pt` for every network into the run's folder.

    Raises:
        ValueError: no scenes, or a network that is to be kept is not there.
    """
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(cfg.threads)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    files = scene_files(cfg.data)
    present = {file.name.rsplit("-", 1)[0] for file in files}
    tasks = tuple(task for task in TASKS if task in present)
    network = NetworkConfig(tasks)
    everything = read_scenes(files, tasks)
    held_rows = torch.cat(
        [(everything.task == t).nonzero()[: cfg.keep_out, 0] for t in range(len(tasks))]
    )
    rest = torch.ones(len(everything), dtype=torch.bool)
    rest[held_rows] = False
    held, data = everything.part(held_rows), everything.part(rest.nonzero()[:, 0])
    print(json.dumps({**asdict(cfg), "tasks": tasks, "scenes": len(data)}), flush=True)
    networks = make_networks(network)
    related = same_scene(tasks)
    losses: dict[str, Losses] = {
        "planner": partial(planner_loss, networks.planner),
        "recognizer": partial(
            recognizer_loss, networks.recognizer, planner=networks.planner, related=related
        ),
        "eraser": partial(eraser_loss, networks.eraser),
        "painter": partial(painter_loss, networks.painter),
    }
    for name, net in networks._asdict().items():
        torch.manual_seed(cfg.seed)
        minutes = float(getattr(cfg, f"{name}_minutes"))
        if minutes == 0:
            adopt(net, tasks, saved_network(out / f"{name}.pt"))
            continue
        if cfg.start_from:
            adopt(net, tasks, saved_network(Path(cfg.start_from) / f"{name}.pt"))
        if isinstance(net, Planner):
            _centre(net, data)
        average = fit(name, net, losses[name], data, held, cfg)
        net.load_state_dict(average.state_dict())
        training = {
            "processor_minutes": minutes,
            "scenes": len(data),
            "batch": cfg.batch,
            "lr": cfg.lr,
            "torch": str(torch.__version__),
        }
        weights = {"tasks": list(tasks), "weights": net.state_dict(), "training": training}
        torch.save(weights, out / f"{name}.pt")


def _centre(planner: Planner, data: Scenes) -> None:
    """What is learned is how a motion differs from its task's mean."""
    for task in range(len(planner.cfg.tasks)):
        paths = data.path[data.task == task]
        planner.path_mean[task] = paths.mean(0)
        planner.path_std[task] = paths.std(0, correction=0).clamp_min(0.01)
