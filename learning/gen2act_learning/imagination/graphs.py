"""What is exported: a picture, a task and noise in; a plan, then one frame after the other, out."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen2act_sim.human import HAND_STAYS

from .hand import FAR_M, HandPainter, people
from .networks import Encoded, Eraser, Planner, Recognizer, ScenePainter
from .scenes import IMAGE_SIZE, MOMENTS

NOISE = 12  # standard normal numbers that decide who acts, how fast and from where
PEOPLE = 128
_PACES = 5
# The scene's depth is predicted; a hand that is nearer, or this much behind it, is shown [m].
_OCCLUSION_MARGIN_M = 0.02


class Timeline(NamedTuple):
    """What is seen when, for N frames."""

    hand_m: Tensor  # [N, 3] world frame
    opening: Tensor  # [N]
    moved_px: Tensor  # [N, 2] displacement of the object
    person: Tensor  # [PERSON]


class Performer(nn.Module):
    """A planned motion as some person performs it.

    The noise decides the pace along the motion, where the hand comes from, how long it takes to
    come, whether it leaves, and who the person is; in ranges like the training videos'.
    """

    crowd: Tensor
    may_leave: Tensor

    def __init__(self, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.register_buffer("crowd", people(PEOPLE))
        leaves = [float(task not in HAND_STAYS) for task in tasks]
        self.register_buffer("may_leave", torch.tensor(leaves))

    def forward(self, path: Tensor, task: Tensor, noise: Tensor, progress: Tensor) -> Timeline:
        """Args: path [L, PATH]; task [1]; noise [NOISE]; progress [N] of the video, in [0, 1]."""
        uniform = torch.sigmoid(1.7 * noise)
        pace = torch.exp(0.35 * noise[:_PACES])
        passed = (progress[:, None] * _PACES - torch.arange(_PACES)).clamp(0, 1)
        time = passed @ (pace / pace.sum())
        weights = (1 - (time[:, None] * (MOMENTS - 1) - torch.arange(MOMENTS)).abs()).clamp_min(0)
        moments = weights @ path

        low, high = torch.tensor([-0.06, -0.02, -0.06]), torch.tensor([0.08, 0.06, 0.03])
        detour = low + (high - low) * uniform[5:8]
        index = (uniform[11] * PEOPLE).long().clamp(0, PEOPLE - 1)
        person = self.crowd.index_select(0, index[None])[0]
        outside = (1 - progress / (0.15 + 0.15 * uniform[8])).clamp_min(0) ** 1.5
        leaving = 0.1 + 0.1 * uniform[10]
        left = ((progress - 1 + leaving) / leaving).clamp_min(0)
        outside = outside + 0.5 * left * (noise[9] > 0) * self.may_leave[task]
        away = 0.45 * person[7:10] + torch.tensor([-0.1, -0.1, 0.1])
        hand = (
            moments[:, :3] + (1 - 4 * time).clamp_min(0)[:, None] * detour + outside[:, None] * away
        )
        return Timeline(hand, moments[:, 3].clamp(0, 1), moments[:, 4:6], person)


class PlanGraph(nn.Module):
    """Everything that is needed once a video."""

    def __init__(
        self, planner: Planner, recognizer: Recognizer, eraser: Eraser, painter: ScenePainter
    ) -> None:
        super().__init__()
        self.planner, self.recognizer = planner, recognizer
        self.eraser, self.painter = eraser, painter
        self.performer = Performer(planner.cfg.tasks)

    def forward(
        self, scene: Tensor, task: Tensor, noise: Tensor, progress: Tensor
    ) -> tuple[Tensor, ...]:
        """Args: scene uint8 [1, S, S, 3]; task int64 [1]; noise [NOISE]; progress [N].

        Returns:
            present (probability that each task is possible in this picture [tasks]); timeline;
            start_px [1, 2]; plate [1, 3, S, S]; its features.
        """
        picture = scene.permute(0, 3, 1, 2).float() / 255.0
        features = self.planner.features(picture)
        plan = self.planner.plan(features, task)
        timeline = self.performer(plan.path[0], task, noise, progress)
        plate = self.eraser(picture)
        present = self.recognizer(features)[0].sigmoid()
        return present, *timeline, plan.object_px, plate, *self.painter.encode(plate)


PLAN_OUTPUTS = (
    *("present", "hand_m", "opening", "moved_px", "person"),
    *("start_px", "plate", "fine", "middle", "coarse"),
)
FRAME_INPUTS = (
    *("hand_m", "opening", "moved_px", "person"),
    *("start_px", "plate", "fine", "middle", "coarse", "task"),
)


def shows(hand_m: Tensor, scene_m: Tensor) -> Tensor:
    """Where a hand at this depth is seen in front of the scene [m]; `FAR_M` is no hand."""
    return hand_m < scene_m.clamp(max=FAR_M / 2) + _OCCLUSION_MARGIN_M


class FrameGraph(nn.Module):
    """One frame of the plan."""

    def __init__(self, painter: ScenePainter, hand: HandPainter) -> None:
        super().__init__()
        self.painter, self.hand = painter, hand

    def forward(
        self,
        hand_m: Tensor,
        opening: Tensor,
        moved_px: Tensor,
        person: Tensor,
        start_px: Tensor,
        plate: Tensor,
        fine: Tensor,
        middle: Tensor,
        coarse: Tensor,
        task: Tensor,
    ) -> Tensor:
        """Args: the timeline at this frame ([1, 3], [1], [1, 2]) and the plan.

        Returns:
            uint8 [S, S, 3]
        """
        encoded = Encoded(fine, middle, coarse)
        shown = self.painter(plate, encoded, task, start_px, moved_px)
        colour, depth = self.hand(hand_m[0], opening, person)
        behind = F.interpolate(
            shown.depth_m[:, None], size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear"
        )[0, 0]
        frame = torch.where(shows(depth, behind), colour, shown.picture[0])
        return (frame * 255).round().to(torch.uint8).permute(1, 2, 0)
