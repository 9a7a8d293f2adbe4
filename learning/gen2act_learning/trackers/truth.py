"""What the simulator knows of its own video, as a tracker: the reference for the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen2act_sim import Tracks as SimulatorTracks

from .protocol import Tracks

_SAME_PX = 0.5


class SimulatorTruth:
    """Knows one video and the points that the simulator followed in it.

    Args:
        known: of `human_video(..., points=P)` or `robot_demo(..., points=P)`.
        side: [px] of that video.
    """

    def __init__(self, known: SimulatorTracks, side: int) -> None:
        self._known = known
        self._side = side

    @property
    def points(self) -> NDArray[np.float32]:
        """Those that can be asked for [P, 2], in [0, 1] of the side."""
        return (self._known.points0_px / self._side).astype(np.float32)

    def track(self, frames: NDArray[np.uint8], points: NDArray[np.float32]) -> Tracks:
        """Raises ValueError: a point or a number of frames that the simulator did not follow."""
        if len(frames) != self._known.tracks_px.shape[1]:
            raise ValueError(
                f"{len(frames)} frames, the simulator followed {self._known.tracks_px.shape[1]}"
            )
        distance = np.linalg.norm(points[:, None] - self.points[None], axis=-1) * self._side
        nearest = distance.argmin(1)
        if (distance.min(1) > _SAME_PX).any():
            raise ValueError("the simulator did not follow one of these points")
        places = self._known.tracks_px[nearest] / self._side
        return Tracks(places.astype(np.float32), self._known.visible[nearest])
