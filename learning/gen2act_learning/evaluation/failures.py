"""MP4s of episodes that failed: human video left, robot right.

Episodes are run again for their pictures: the same job gives the same episode.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from gen2act_contracts.video import encode_mp4

from .episodes import Evaluator, Job, StagePictures
from .rollout import Frames
from .store import EpisodeResult, Key
from .summary import Row

SIDE = 320  # [px] of each half
CAPTION = 48  # [px] below them
FRAMES_PER_TICK = 3  # so that the human video, which has more frames than ticks pass, is smooth
TICKS_PER_S = 3
HOLD_TICKS = 3  # the last picture stays


def sample(rows: Iterable[Row], jobs: Iterable[Job], per_row: int) -> list[Job]:
    """The first `per_row` missed seeds of each case and video (a chain's: of its last stage)."""
    by_key = {job.key: job for job in jobs}
    chosen = [
        by_key[row.case.id, row.video, seed]
        for row in rows
        if row.is_last
        for seed in row.missed_seeds[:per_row]
    ]
    return list(dict.fromkeys(chosen))


def write_failures(
    jobs: Sequence[Job], evaluator: Evaluator, results: Mapping[Key, EpisodeResult], folder: Path
) -> list[Path]:
    """An MP4 per job that was run; those that are there already are kept.

    Episodes in which not one video could be made have no pictures and are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for job in jobs:
        name = re.sub(r"[^a-z0-9]+", "-", f"{job.case.id}-{job.video}-{job.seed}".lower())
        path = folder / f"{name}.mp4"
        if not path.exists():
            stages: list[StagePictures] = []
            again = evaluator.run(job, stages.append)
            if not stages:
                continue
            same = again == results[job.key]
            note = "" if same else " (ended otherwise when it was run again)"
            pages = [page for stage in stages for page in _pages(stage, f"{job}{note}", again)]
            path.write_bytes(encode_mp4(pages, FRAMES_PER_TICK * TICKS_PER_S))
        written.append(path)
    return written


def _pages(stage: StagePictures, title: str, episode: EpisodeResult) -> list[Frames]:
    """Both at once, the human video stretched to the robot's duration, over two lines of text."""
    result = next(result for result in episode.stages if result.task == stage.task)
    ended = "its own terminate" if result.terminated else "the tick budget"
    verdict = "success" if result.success else "failure"
    lines = (title, f"{stage.task}: {result.ticks} ticks, ended by {ended}, simulator: {verdict}")
    moving = len(stage.robot) * FRAMES_PER_TICK
    pages = []
    for index in range(moving + HOLD_TICKS * FRAMES_PER_TICK):
        progress = min(index / moving, 1.0)
        page = np.full((SIDE + CAPTION, 2 * SIDE, 3), 250, np.uint8)
        for half, frames in enumerate((stage.human, stage.robot)):
            shown = frames[min(len(frames) - 1, int(progress * len(frames)))]
            page[:SIDE, half * SIDE : (half + 1) * SIDE] = cv2.resize(shown, (SIDE, SIDE))
        for row, text in enumerate(lines):
            place = (6, SIDE + 18 + 20 * row)
            cv2.putText(
                page, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA
            )
        pages.append(page)
    return pages
