"""What a person looks at afterwards: human video beside robot, as a video and as contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frames = NDArray[np.uint8]  # [N, S, S, 3] RGB

TILE = 160  # [px] side of one picture in a contact sheet
SIDE = 320  # [px] side of each half of the side-by-side video
COLUMNS = 8
MARGIN = 12
HEADER = 64
LABEL = 24
PAPER = (250, 250, 247)
INK = (30, 30, 30)
QUIET = (110, 110, 110)
GOOD = (20, 110, 50)
BAD = (170, 30, 30)
# Each robot frame is one control period; so many video frames are shown per period.
FRAMES_PER_TICK = 4
END_HOLD_S = 1.0


@dataclass(frozen=True)
class StagePictures:
    """What is known of one stage when it has ended."""

    number: int  # from 1
    task: str
    prompt: str
    outcome: str  # e.g. "9 ticks, ended by the policy, simulator: success"
    success: bool
    human: Frames
    robot: Frames
    period_s: float  # [s] between two robot frames


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _scaled(frame: NDArray[np.uint8], side: int) -> Image.Image:
    return Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)


def evenly(count: int, wanted: int) -> list[int]:
    """Indices of `wanted` evenly spaced items of `count`, first and last included."""
    return [round(x) for x in np.linspace(0, count - 1, min(wanted, count))]


def _write_header(draw: ImageDraw.ImageDraw, stage: StagePictures) -> None:
    draw.text((MARGIN, 8), f"Stage {stage.number}: {stage.task}", fill=INK, font=_font(18))
    draw.text((MARGIN, 36), stage.prompt, fill=QUIET, font=_font(14))


def contact_sheet(stage: StagePictures) -> Image.Image:
    """Two rows of evenly spaced frames, human video above, robot below, over the outcome."""
    rows = [("human video", stage.human, ""), ("robot", stage.robot, "tick ")]
    width = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * 4
    height = HEADER + len(rows) * (LABEL + TILE + 8) + LABEL + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _write_header(draw, stage)
    top = HEADER
    for name, frames, unit in rows:
        draw.text((MARGIN, top + 3), f"{name}, {len(frames)} frames", fill=INK, font=_font(13))
        top += LABEL
        for column, index in enumerate(evenly(len(frames), COLUMNS)):
            left = MARGIN + column * (TILE + 4)
            sheet.paste(_scaled(frames[index], TILE), (left, top))
            draw.rectangle((left, top, left + 48, top + 16), fill=PAPER)
            draw.text((left + 3, top + 2), f"{unit}{index}", fill=INK, font=_font(11))
        top += TILE + 8
    colour = GOOD if stage.success else BAD
    draw.text((MARGIN, top + 2), stage.outcome, fill=colour, font=_font(14))
    return sheet


def side_by_side(stages: Sequence[StagePictures]) -> tuple[Frames, float]:
    """All stages one after another: human video left, robot right, in the robot's real time.

    The human video is stretched to the robot's duration, so that both show the same progress.

    Returns:
        uint8[N, H, W, 3] RGB frames and frames per second.
    """
    width, height = 2 * SIDE + 3 * MARGIN, HEADER + SIDE + LABEL + 2 * MARGIN
    fps = FRAMES_PER_TICK / stages[0].period_s
    pages: list[NDArray[np.uint8]] = []
    for stage in stages:
        base = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
        _write_header(ImageDraw.Draw(base), stage)
        moving = max(1, len(stage.robot)) * FRAMES_PER_TICK
        total = moving + round(END_HOLD_S * fps)
        for index in range(total):
            progress = min(1.0, index / max(1, moving - 1))
            page = base.copy()
            draw = ImageDraw.Draw(page)
            for place, (name, frames) in enumerate(
                [("human video", stage.human), ("robot", stage.robot)]
            ):
                shown = min(len(frames) - 1, int(progress * len(frames)))
                left = MARGIN + place * (SIDE + MARGIN)
                page.paste(_scaled(frames[shown], SIDE), (left, HEADER))
                label = f"{name}  {shown + 1}/{len(frames)}"
                draw.text((left, HEADER + SIDE + 4), label, fill=QUIET, font=_font(13))
            if index >= moving:
                colour = GOOD if stage.success else BAD
                draw.text(
                    (MARGIN, HEADER + SIDE + 4 + 18), stage.outcome, fill=colour, font=_font(13)
                )
            pages.append(np.asarray(page))
    return np.stack(pages), fps
