"""When the next stage's video may be begun early, and when it may be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Foresight:
    """A video begun at `likely over` shows the scene as it was then, not as it is after the reset.

    Raises:
        ValueError: a share outside [0, 1].
    """

    enabled: bool = False
    # Share of the picture. Measured at 30 stage ends in the simulator (benchmarks/stage_likeness):
    # a scene at rest differs from itself by at most 0.004, what a stage visibly changed by at
    # least 0.014, an arm that was still at work by at least 0.057.
    largest_change: float = 0.007

    def __post_init__(self) -> None:
        if not 0 <= self.largest_change <= 1:
            raise ValueError(f"largest change must be in [0, 1], not {self.largest_change}")

    def still_holds(self, changed: float) -> bool:
        """Whether a video of the earlier picture fits the scene.

        Args:
            changed: share of the picture that is different now, 0 to 1.
        """
        return changed <= self.largest_change
