"""How near the model's motion and pictures come to the simulator's, on scenes kept out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gen2act_sim.rendering import project

from .export import Imagination
from .graphs import shows
from .hand import HandPainter, fitted_hand_painter
from .networks import shrink
from .scenes import IMAGE_SIZE, PICTURE_SIZE
from .train import Scenes, as_float


def psnr(a: Tensor, b: Tensor) -> float:
    """Mean over pictures [N, 3, P, P] in [0, 1]: [dB]."""
    error = (a - b).square().flatten(1).mean(1).clamp_min(1e-10)
    return float((-10 * torch.log10(error)).mean())


def ssim(a: Tensor, b: Tensor, window: int = 7) -> float:
    """Structural similarity of the brightness, mean over pictures [N, 3, P, P] in [0, 1]."""
    a, b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, 1)

    mean_a, mean_b = mean(a), mean(b)
    variance = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance + 0.03**2)
    return float((light * structure).mean())


def _shown(
    picture: Tensor, depth_m: Tensor, hand: HandPainter, moment: Tensor, person: Tensor
) -> Tensor:
    """A picture [3, P, P] with a hand at a moment [PATH] of a motion."""
    colour, depth = hand(moment[:3], moment[3:4].clamp(0, 1), person)
    return torch.where(shows(depth, depth_m), colour, picture)


@torch.no_grad()
def measure(model: Imagination, held: Scenes) -> dict[str, Any]:
    """Errors over all scenes; pictures at their recorded moments, with the same person's hand.

    `static` is the score of the scene itself as every frame: what a model has to beat.
    """
    hand = fitted_hand_painter(PICTURE_SIZE)
    person = model.plan.performer.crowd[0]
    made, true, static, rows = [], [], [], []
    for index in range(len(held)):
        scene = held.part(torch.tensor([index]))
        planner, painter = model.plan.planner, model.frame.painter
        picture = as_float(scene.scene)
        plan = planner.plan(planner.features(picture), scene.task)
        path, truth = plan.path[0], scene.path[0]
        seen, wanted = (project(p[:, :3].numpy(), IMAGE_SIZE)[0] for p in (path, truth))
        rows.append(
            {
                "task": model.tasks[int(scene.task)],
                "hand_mm": 1000 * float((path - truth)[:, :3].norm(dim=1).mean()),
                "hand_px": float(((seen - wanted) ** 2).sum(-1).mean() ** 0.5),
                "object_px": float((path - truth)[:, 4:].norm(dim=1).mean()),
            }
        )
        plate = shrink(model.plan.eraser(picture))
        encoded = painter.encode(plate)
        for k, moment in enumerate(scene.moment[0].tolist()):
            shown = painter(plate, encoded, scene.task, plan.object_px, path[moment, 4:][None])
            made.append(_shown(shown.picture[0], shown.depth_m[0], hand, path[moment], person))
            bare, depth = as_float(scene.pictures[0, k]), scene.depths_m[0, k].float()
            true.append(_shown(bare, depth, hand, truth[moment], person))
            static.append(as_float(scene.small_scene)[0])
    pictures = {"learned": torch.stack(made), "static": torch.stack(static)}
    target = torch.stack(true)

    def means(chosen: list[dict[str, Any]]) -> dict[str, float]:
        keys = ("hand_mm", "hand_px", "object_px")
        return {k: round(sum(row[k] for row in chosen) / len(chosen), 2) for k in keys}

    return {
        "scenes": len(held),
        "all": means(rows),
        "psnr_db": {name: round(psnr(p, target), 2) for name, p in pictures.items()},
        "ssim": {name: round(ssim(p, target), 4) for name, p in pictures.items()},
        "tasks": {t: means([r for r in rows if r["task"] == t]) for t in model.tasks},
    }
