"""Training curves of a run: losses, errors in mm and rates against the step, one PNG per log.

`write_plots(run)` at each checkpoint, or `python -m gen2act_learning.plots runs/a` at any time.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Curve of one part of the data ("train", "held-out"): step -> value.
Curve = dict[int, float]
Curves = Mapping[str, Mapping[str, Curve]]  # metric -> part -> curve

_NOT_METRICS = ("part", "step", "minutes")
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "train": {"lw": 1.0},
    "held-out": {"lw": 0.0, "marker": "o", "ms": 4},
}


class NoLog(Exception):
    """The folder is no training run, or its log has nothing to show."""


def read_log(path: Path) -> Curves:
    """The curves in a run's CSV.

    Where a resumed run wrote a step again, the later row counts. A row that is torn or of other
    columns than the header is left out.

    Raises:
        NoLog: there is not one whole row, or columns are missing.
    """
    with path.open(newline="") as file:
        header, *table = list(csv.reader(file)) or [[]]
    if not {"part", "step"} <= set(header):
        raise NoLog(f"{path} has the columns {', '.join(header)}; part and step are needed")
    curves: dict[str, dict[str, Curve]] = {name: {} for name in header if name not in _NOT_METRICS}
    for fields in table:
        if len(fields) != len(header):
            continue
        row = dict(zip(header, fields, strict=True))
        for name, parts in curves.items():
            parts.setdefault(row["part"], {})[int(row["step"])] = float(row[name])
    if not any(curves.values()):
        raise NoLog(f"{path} has no rows yet")
    return curves


def write_plots(run: Path) -> list[Path]:
    """Writes `<log>.png` beside every `log*.csv` of a run's folder; none there, none written.

    Raises:
        NoLog: a log without rows or columns.
    """
    written = []
    for log in sorted(run.glob("log*.csv")):
        path = log.with_suffix(".png")
        _plot(read_log(log), f"{run.name}, {log.stem}").savefig(path)
        written.append(path)
    return written


def _kind(metric: str) -> str:
    if metric.endswith("_mm"):
        return "error [mm]"
    if metric.endswith(("_precision", "_recall", "_accuracy")):
        return "rate"
    return "loss"


def _plot(curves: Curves, title: str) -> Figure:
    kinds = [k for k in ("loss", "error [mm]", "rate") if any(_kind(m) == k for m in curves)]
    figure = Figure(figsize=(4.6 * len(kinds), 4.2), layout="constrained", dpi=110)
    figure.suptitle(f"{title}: line training, dots held out", fontsize=10)
    all_axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    for kind, axes in zip(kinds, all_axes, strict=True):
        _draw(axes, kind, {m: parts for m, parts in curves.items() if _kind(m) == kind})
    return figure


def _draw(axes: Axes, kind: str, curves: Curves) -> None:
    for index, (metric, parts) in enumerate(curves.items()):
        for number, (part, curve) in enumerate(parts.items()):
            axes.plot(
                sorted(curve),
                [curve[step] for step in sorted(curve)],
                color=f"C{index % 10}",
                label=metric.replace("_", " ") if number == 0 else None,
                **_STYLES.get(part, {"lw": 1.0, "ls": "--"}),
            )
    axes.set(xlabel="step", ylabel=kind)
    if kind == "rate":
        axes.set_ylim(0.0, 1.02)
    elif all(v > 0 for parts in curves.values() for c in parts.values() for v in c.values()):
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a training run")
    args = parser.parse_args(arguments)
    try:
        written = write_plots(args.run)
        if not written:
            raise NoLog(f"{args.run} has no log*.csv; is it the --out of gen2act-train?")
        print(*written, sep="\n")
    except NoLog as error:
        print(f"gen2act_learning.plots: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
