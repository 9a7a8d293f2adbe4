"""Human videos for robot data that have none: the paper's recipe (section 3.2).

For each episode the video service imagines a person doing the task in its first frame; points of
that video and of the robot's own frames are then followed by a tracker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.errors import InvalidInstruction, UnsupportedInstruction, VideoRejected
from gen2act_contracts.video import encode_mp4

from ..trackers import Tracker, pick_points
from ..video_service import ImaginedVideo
from .dataset import Dataset
from .human import Human, has_human, write_human

POINTS = 16  # as many as our own demonstrations have: batches stack them
# What speaks of one episode and not of the service: the others are still worth asking for.
_OF_ONE_EPISODE = (InvalidInstruction, UnsupportedInstruction, VideoRejected)


class Imagination(Protocol):
    """What makes a video; :class:`gen2act_learning.video_service.VideoService` is one."""

    def generate(
        self, backend: str, task: str, scene: NDArray[np.uint8], seed: int
    ) -> ImaginedVideo:
        """The video of a person doing `task` in a scene uint8 [S, S, 3]."""


@dataclass
class Outcome:
    """What a call of :func:`imagine` did."""

    there: int = 0  # had a video before
    made: int = 0
    refused: dict[int, str] = field(default_factory=dict)  # episode -> why

    @property
    def complete(self) -> bool:
        return not self.refused


def imagine(
    dataset: Dataset,
    service: Imagination,
    tracker: Tracker,
    *,
    backend: str = "",
    seed: int = 0,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Fill in the human videos that a dataset lacks; ended at any moment, it goes on there.

    Args:
        backend: of the service; "": the one it prefers.
        seed: of the first episode; the n-th gets seed + n.
        progress: called after every episode.

    Raises:
        Gen2ActError: the service or its store cannot be reached, or its backend cannot do this.
        DatasetError: an episode's pictures cannot be read.
    """
    outcome = Outcome()
    for ref in dataset.episodes():
        key = dataset.keys[ref.index]
        if has_human(dataset.root, key):
            outcome.there += 1
            continue
        scene = dataset.first_frame(ref.index)
        try:
            video = service.generate(backend, dataset.tasks[ref.index], scene, seed + ref.index)
        except _OF_ONE_EPISODE as error:
            outcome.refused[ref.index] = str(error)
        else:
            rng = np.random.default_rng([seed, ref.index])
            human = followed(video, dataset.robot_frames(ref.index), tracker, rng)
            write_human(dataset.root, key, human)
            outcome.made += 1
        progress(outcome)
    return outcome


def followed(
    video: ImaginedVideo,
    robot_frames: NDArray[np.uint8],
    tracker: Tracker,
    rng: np.random.Generator,
) -> Human:
    """The video with tracks through it and through the robot's frames."""
    points = pick_points(video.frames, POINTS, rng)
    goal = tracker.track(video.frames, points)
    robot = tracker.track(robot_frames, pick_points(robot_frames, POINTS, rng))
    arrays: dict[str, NDArray[Any]] = {
        "points": points,
        "tracks": goal.places,
        "visible": goal.visible,
        "robot_tracks": robot.places,
        "robot_visible": robot.visible,
    }
    provenance = {
        "backend": video.backend,
        "model": video.model,
        "tracker": type(tracker).__name__,
    }
    return Human(encode_mp4(video.frames, video.fps), arrays, provenance)
