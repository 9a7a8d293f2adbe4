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

from .networks import Encoded, Eraser, NetworkConfig, Planner, ScenePainter, shrink
from .scenes import IMAGE_SIZE, Scene, load

PARTS = ("planner", "eraser", "painter")
_HAND_UNIT_M = 0.05
_OBJECT_UNIT_PX = 10.0


@dataclass(frozen=True)
class TrainConfig:
    """One run. Stored with the weights."""

    data: tuple[str, ...]
    out: str
    planner_minutes: float = 10.0
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


def planner_loss(
    planner: Planner, batch: Scenes, related: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Motion, place of the object, tasks that are possible."""
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
    present = F.binary_cross_entropy_with_logits(
        planner.tasks_present(features), related[batch.task]
    )
    loss = motion + 0.1 * located + place / _OBJECT_UNIT_PX + 0.1 * present
    return loss, {
        "hand_mm": 1000 * hand.item(),
        "moved_px": moved.item(),
        "object_px": place.item(),
        "opening": error[..., 3].mean().item(),
        "present": present.item(),
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


def train(cfg: TrainConfig, parts: tuple[str, ...] = PARTS) -> None:
    """Writes `<part>.pt` for every part into the run's folder."""
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
    for name in parts:
        torch.manual_seed(cfg.seed)
        net: nn.Module
        losses: Losses
        if name == "planner":
            net = planner = Planner(network)
            losses = partial(planner_loss, planner, related=same_scene(tasks))
        elif name == "eraser":
            net = eraser = Eraser(network)
            losses = partial(eraser_loss, eraser)
        else:
            net = painter = ScenePainter(network)
            losses = partial(painter_loss, painter)
        if cfg.start_from:
            saved = torch.load(Path(cfg.start_from) / f"{name}.pt", weights_only=True)
            adopt(net, tasks, saved)
        if isinstance(net, Planner):
            _centre(net, data)
        average = fit(name, net, losses, data, held, cfg)
        training = {
            "processor_minutes": getattr(cfg, f"{name}_minutes"),
            "scenes": len(data),
            "batch": cfg.batch,
            "lr": cfg.lr,
            "torch": str(torch.__version__),
        }
        weights = {"tasks": list(tasks), "weights": average.state_dict(), "training": training}
        torch.save(weights, out / f"{name}.pt")


def _centre(planner: Planner, data: Scenes) -> None:
    """What is learned is how a motion differs from its task's mean."""
    for task in range(len(planner.cfg.tasks)):
        paths = data.path[data.task == task]
        planner.path_mean[task] = paths.mean(0)
        planner.path_std[task] = paths.std(0, correction=0).clamp_min(0.01)
