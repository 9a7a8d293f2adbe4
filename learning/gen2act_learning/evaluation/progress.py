"""How far an evaluation is: one changing line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from .episodes import EXPERT
from .store import EpisodeResult

_LOG_EVERY = 20  # episodes, where there is no terminal


class Progress:
    """Counts episodes; `total` of them are to be run."""

    def __init__(self, total: int, out: TextIO = sys.stdout) -> None:
        self._total = total
        self._out = out
        self._live = out.isatty()
        self._done = self._tried = self._won = 0
        self._start = time.monotonic()

    def add(self, result: EpisodeResult) -> None:
        """One more; a chain succeeded where all its stages did."""
        self._done += 1
        if result.video != EXPERT:
            self._tried += 1
            self._won += all(stage.success for stage in result.stages)
        if self._live or self._done % _LOG_EVERY == 0 or self._done == self._total:
            left_s = (time.monotonic() - self._start) / self._done * (self._total - self._done)
            text = (
                f"{self._done}/{self._total} episodes, policy {self._won}/{self._tried} succeeded, "
                f"{left_s / 60:.0f} min {left_s % 60:02.0f} s left"
            )
            self._out.write(f"\r\033[K{text}" if self._live else f"{text}\n")
            self._out.flush()

    def close(self) -> None:
        """Leaves the last line standing."""
        if self._live and self._done:
            self._out.write("\n")
