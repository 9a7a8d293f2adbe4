"""Which points of a video to follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pick_points(
    frames: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Random points of the first frame [count, 2] in [0, 1] of the side (paper, section 3.2).

    Half anywhere; half where the video changes most, because most of a scene stays as it is.
    """
    side = frames.shape[1]
    grey = frames.astype(np.float32).mean(-1)
    change = np.abs(grey - grey[0]).mean(0).ravel()
    weight = change**2 + 1e-6
    anywhere = rng.integers(side * side, size=count - count // 2)
    moving = rng.choice(side * side, count // 2, p=weight / weight.sum())
    row, column = np.divmod(np.concatenate([moving, anywhere]), side)
    return (np.stack([column, row], axis=1) / side).astype(np.float32)
