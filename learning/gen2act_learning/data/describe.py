"""Says how somebody's LeRobotDataset is to be read, checks all of it, and finds action bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from . import layout
from .dataset import Dataset
from .description import Description, write_description
from .errors import DatasetError

_QUANTILES = (0.005, 0.995)  # of the displacements: a few glitches must not stretch the bins
_LEAST_WIDTH = 2e-3  # of a dimension's bounds, for one that hardly moves


def only_camera(root: Path) -> str:
    """The dataset's camera. Raises DatasetError: it has several, or none."""
    cameras = layout.read_info(root).cameras
    if len(cameras) != 1:
        raise DatasetError(f"{root} has cameras {cameras}; choose one with --camera")
    return cameras[0]


def describe(
    root: Path,
    description: Description,
    *,
    margin: float = 0.1,
) -> Dataset:
    """Check the dataset under this description and write it beside the data, with bounds.

    Args:
        description: where it has no bounds they are found: the displacements per control period
            between their 0.5 % and 99.5 % quantiles, widened.
        margin: part of that range added on both sides.

    Raises:
        DatasetError: see :meth:`Dataset.check`. Human videos may still be missing.
    """
    dataset = Dataset(root, _with_opening_range(root, description))
    dataset.check(videos=False)
    described = dataset.description
    if not described.bounds:
        described = replace(described, bounds=_bounds(dataset, margin))
    write_description(root, described)
    return Dataset(root)


def _with_opening_range(root: Path, description: Description) -> Description:
    """Shut and open are the least and the greatest opening, unless said otherwise."""
    if not description.opening or description.opening_range:
        return description
    probe = Dataset(root, description)
    probe.check(videos=False)
    values = np.concatenate(
        [probe.state(ref.index, [description.opening]) for ref in probe.episodes()]
    )
    return replace(description, opening_range=(float(values.min()), float(values.max())))


def _bounds(dataset: Dataset, margin: float) -> tuple[tuple[float, float], ...]:
    rows = [dataset.actions(dataset.rows[ref.index]) for ref in dataset.episodes()]
    low, high = np.quantile(np.concatenate(rows), _QUANTILES, axis=0)
    extra = np.maximum((high - low) * margin, (_LEAST_WIDTH - (high - low)) / 2)
    return tuple((_short(a), _short(b)) for a, b in zip(low - extra, high + extra, strict=True))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def summary(dataset: Dataset) -> str:
    """What was understood, for the person to check."""
    described = dataset.description
    refs = dataset.episodes()
    ticks = sum(len(dataset.ticks(dataset.rows[ref.index])) for ref in refs)
    lines = [
        f"{dataset.root}: {len(refs)} episodes, {ticks} control periods of 1/3 s "
        f"(from {dataset.info.fps:g} frames/s), {len(set(dataset.tasks))} tasks",
        f"camera {described.camera}, cut to its middle square",
        *(
            f"action {d.name}: {d.low:g} to {d.high:g} {d.unit} per control period"
            for d in described.dimensions()
        ),
        f"gripper is closed where {described.gripper}",
        f"end effector {', '.join(described.position)}; gripper opening {described.opening} "
        f"from {described.opening_range[0]:g} (shut) to {described.opening_range[1]:g} (open)"
        if described.opening
        else "no end-effector state: train with --no-proprioception",
    ]
    return "\n".join(lines)


def parse_bounds(text: str, count: int) -> tuple[tuple[float, float], ...]:
    """ "0.05" -> ±0.05 for all; "-0.1:0.1,..." -> one pair each. Raises DatasetError."""
    try:
        pairs = [_pair(part) for part in text.split(",")]
    except ValueError:
        raise DatasetError(f"bounds {text!r}, expected e.g. 0.05 or -0.1:0.1,0:0.2,...") from None
    if len(pairs) == 1:
        pairs = pairs * count
    if len(pairs) != count:
        raise DatasetError(f"{len(pairs)} bounds for {count} actions")
    return tuple(pairs)


def _pair(text: str) -> tuple[float, float]:
    low, colon, high = text.rpartition(":")
    return (float(low), float(high)) if colon else (-float(high), float(high))
