"""Metrics of a run: to the terminal and to a CSV."""

from __future__ import annotations

import csv
from itertools import count
from pathlib import Path


class Log:
    """Writes `log-policy.csv`, and `log-locate.csv` while the frame encoder trains alone.

    A file's columns never change: a run that is resumed with other losses goes on in
    `log-policy-2.csv`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, part: str, step: int, spent_s: float, metrics: dict[str, float]) -> None:
        """One row. Args: part: of the data, "train" or "held-out"."""
        row = {"part": part, "step": step, "minutes": round(spent_s / 60, 2)}
        row |= {key: round(value, 4) for key, value in metrics.items()}
        path = self._file("policy" if "action" in metrics else "locate", set(row))
        header = _header(path)
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, header or list(row))
            if not header:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)

    def _file(self, kind: str, columns: set[str]) -> Path:
        """The first log of this kind that has these columns, or none yet."""
        names = (f"log-{kind}{'' if n == 1 else f'-{n}'}.csv" for n in count(1))
        paths = (self.folder / name for name in names)
        return next(path for path in paths if set(_header(path)) in (set(), columns))


def _header(path: Path) -> list[str]:
    """Of a CSV; empty where there is none yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])
