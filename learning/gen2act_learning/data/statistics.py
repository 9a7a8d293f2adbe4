"""Statistics of features as the `lerobot` tools keep them: per episode, and of all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = dict[str, NDArray[Any]]

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_KEYS = tuple(f"q{int(q * 100):02d}" for q in QUANTILES)
_PIXEL_STRIDE = 8  # every 8th pixel of a picture tells enough of its colours


def of_values(values: NDArray[Any]) -> Statistics:
    """Of a feature over an episode, [T] or [T, D, ...]: reduced over time, scalars to [1]."""
    rows = values[:, None] if values.ndim == 1 else values
    return _over_rows(rows)


def of_pictures(frames: NDArray[np.uint8]) -> Statistics:
    """Per colour channel in [0, 1], shape [3, 1, 1]; uint8 [T, S, S, 3] in."""
    pixels = frames[:, ::_PIXEL_STRIDE, ::_PIXEL_STRIDE].reshape(-1, 3) / 255.0
    found = {
        key: value.reshape(3, 1, 1) for key, value in _over_rows(pixels).items() if key != "count"
    }
    return found | {"count": np.array([len(frames)])}


def combine(parts: Sequence[Statistics]) -> Statistics:
    """Of several parts together; quantiles are averaged, as lerobot does."""
    counts = np.array([int(part["count"][0]) for part in parts])
    weight = counts / counts.sum()

    def average(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.tensordot(weight, np.stack(values), axes=1)

    mean = average([part["mean"] for part in parts])
    variance = average([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([counts.sum()]),
        **{key: average([part[key] for part in parts]) for key in _KEYS},
    }


def _over_rows(rows: NDArray[Any]) -> Statistics:
    quantiles = np.quantile(rows, QUANTILES, axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
        **dict(zip(_KEYS, quantiles, strict=True)),
    }
