"""What a tracker is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tracks:
    """P points through N frames; places in parts of the picture's side, (x right, y down)."""

    places: NDArray[np.float32]  # [P, N, 2]; where a point is hidden, the tracker's best guess
    visible: NDArray[np.bool_]  # [P, N]


class Tracker(Protocol):
    """Follows points of a video's first frame."""

    def track(self, frames: NDArray[np.uint8], points: NDArray[np.float32]) -> Tracks:
        """Where the points are in every frame.

        Args:
            frames: RGB, uint8 [N, S, S, 3].
            points: of the first frame [P, 2], in [0, 1] of the side.
        """
