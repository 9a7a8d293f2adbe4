"""The bar chart of a report: a bar per task and video, intervals, the expert's ceiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .episodes import EXPERT
from .report import Report

_ROW_INCH = 0.3
_COLOURS = ("#2f6f9f", "#d98b2b", "#5b8c5a", "#8f5fa8")


def write_chart(report: Report, path: Path) -> None:
    """Success at the end in percent with 95 % Wilson intervals, one group of bars per task."""
    labels = [row.label for row in report.rows[report.videos[0]]]
    figure = Figure(figsize=(8.0, 1.6 + _ROW_INCH * len(labels)), layout="constrained", dpi=120)
    axes = figure.subplots()
    places = np.arange(len(labels), dtype=float)
    height = 0.8 / len(report.videos)
    for index, video in enumerate(report.videos):
        rates = np.array([row.rate for row in report.rows[video]])
        bounds = np.array([row.wilson_95 for row in report.rows[video]])
        spread = np.abs(np.stack([rates - bounds[:, 0], bounds[:, 1] - rates]))
        axes.barh(
            places + (index - (len(report.videos) - 1) / 2) * height,
            100 * rates,
            height,
            xerr=100 * spread,
            color=_COLOURS[index % len(_COLOURS)],
            error_kw={"elinewidth": 0.8, "ecolor": "#555555"},
            label=f"{video} (control)" if video == "shuffled" else video,
        )
    ceiling = [100 * row.rate for row in report.rows.get(EXPERT, ())]
    if ceiling:
        axes.plot(ceiling, places, "k|", markersize=11, label="expert")
    axes.set(
        yticks=places,
        yticklabels=labels,
        xlim=(0, 102),
        xlabel="success at the end [%], 95 % Wilson interval",
        title=f"{report.bundle_name}, suite {report.suite}, {len(report.seeds)} seeds a task",
    )
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path)
