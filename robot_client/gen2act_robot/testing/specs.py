"""An action spec for tests, like the first policy's."""

from __future__ import annotations

from gen2act_contracts.spec import ActionDimension, ActionSpec


def make_spec(
    *,
    low: float = -0.05,
    high: float = 0.05,
    frame: str = "world",
    control_period_s: float = 1 / 3,
    chunk_length: int = 4,
    image_size: int = 64,
    uses_proprioception: bool = False,
) -> ActionSpec:
    """Three displacements [m] within [low, high]; images are small, to be quick."""
    return ActionSpec(
        dimensions=tuple(ActionDimension(axis, "m", low, high) for axis in ("dx", "dy", "dz")),
        frame=frame,
        control_period_s=control_period_s,
        chunk_length=chunk_length,
        image_size=image_size,
        uses_proprioception=uses_proprioception,
        model_hash="0" * 64,
    )
