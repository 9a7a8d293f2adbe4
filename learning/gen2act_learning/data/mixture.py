"""Several datasets trained on together, each with its share: `--data demos:2 mine:1`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.spec import ActionDimension

from .dataset import Dataset, EpisodeRef
from .errors import DatasetError


@dataclass(frozen=True)
class Mixture:
    """Every episode of the datasets, checked, and how often each is to be drawn."""

    episodes: list[EpisodeRef]
    chances: NDArray[np.float64] | None  # sum 1; None: every episode as often as any other
    dimensions: tuple[ActionDimension, ...]  # of the actions, the same in every dataset
    frame: str  # of reference of the actions
    has_state: bool  # every dataset has the end effector's position and the gripper's opening


def parse_source(text: str) -> tuple[Path, float | None]:
    """ "demos:2" -> (demos, 2.0); "demos" -> (demos, None). Raises DatasetError: no such weight."""
    folder, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), None
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not (folder and 0 < value < np.inf):
        raise DatasetError(f"data {text!r}, expected FOLDER or FOLDER:WEIGHT with a weight above 0")
    return Path(folder), value


def open_mixture(sources: Sequence[str], side: int) -> Mixture:
    """Open and check the datasets.

    Args:
        sources: FOLDER for all, or FOLDER:WEIGHT for all. A dataset's share of the drawn episodes
            is its weight's share of all weights, however many episodes it has.
        side: [px] of the pictures.

    Raises:
        DatasetError: see :meth:`Dataset.check`; weights for some datasets only; action dimensions,
            bounds or frames of reference that differ.
    """
    parsed = [parse_source(source) for source in sources]
    weights = [weight for _, weight in parsed if weight is not None]
    if weights and len(weights) != len(parsed):
        raise DatasetError(f"data {list(sources)}: give every folder a weight, or none")
    datasets = [Dataset(folder, side=side) for folder, _ in parsed]
    for dataset in datasets:
        dataset.check()
    first = datasets[0]
    for other in datasets[1:]:
        _same_actions(first, other)
    parts = [dataset.episodes() for dataset in datasets]
    chances = None
    if weights:
        shares = np.array(weights) / sum(weights)
        chances = np.concatenate(
            [
                np.full(len(part), share / len(part))
                for part, share in zip(parts, shares, strict=True)
            ]
        )
    return Mixture(
        episodes=[episode for part in parts for episode in part],
        chances=chances,
        dimensions=first.description.dimensions(),
        frame=first.description.frame,
        has_state=all(dataset.description.position for dataset in datasets),
    )


def _same_actions(one: Dataset, other: Dataset) -> None:
    mine, theirs = one.description, other.description
    if mine.frame != theirs.frame:
        raise DatasetError(
            f"{one.root} has actions in frame {mine.frame!r}, {other.root} in {theirs.frame!r}; "
            "only datasets of one frame of reference can be trained on together"
        )
    if mine.dimensions() != theirs.dimensions():
        raise DatasetError(
            f"the action dimensions differ:\n  {one.root}: {_told(mine.dimensions())}\n"
            f"  {other.root}: {_told(theirs.dimensions())}\nGive both the same names in the same "
            "order and bounds that hold both (`gen2act-data describe --called ... --bounds ...`)"
        )


def _told(dimensions: Sequence[ActionDimension]) -> str:
    return ", ".join(f"{d.name} [{d.low:g}, {d.high:g}] {d.unit}" for d in dimensions)
