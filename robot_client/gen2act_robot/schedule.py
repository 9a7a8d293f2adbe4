"""Tick times that do not drift."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class TickSchedule:
    """Tick n begins at start + n * period, however long the ticks before it took.

    The period is kept as a fraction, so that 1/3 s does not lose a nanosecond per tick.
    """

    start_ns: int  # [ns] monotonic
    period_s: float  # [s]

    def __post_init__(self) -> None:
        if not 0.0 < self.period_s < 3600.0:
            raise ValueError(f"period_s must be in (0, 3600), got {self.period_s}")

    @property
    def _period_ns(self) -> Fraction:
        # 0.333… as a float is read as the 1/3 it stands for.
        return Fraction(self.period_s).limit_denominator(1_000_000) * _NS_PER_S

    def time_ns(self, tick: int) -> int:
        """Begin of tick `tick` on the monotonic clock [ns]."""
        return self.start_ns + round(tick * self._period_ns)

    def tick_at(self, now_ns: int) -> int:
        """The tick that `now_ns` falls in."""
        tick = int((now_ns - self.start_ns) // self._period_ns)
        # Tick times are rounded to whole nanoseconds; agree with them at the edges.
        return tick + 1 if self.time_ns(tick + 1) <= now_ns else tick

    def next_after(self, tick: int, now_ns: int) -> int:
        """The tick to run after `tick`: the next one, or, after an overrun, the next to begin.

        Ticks that were missed are skipped and never caught up with in a burst.
        """
        current = self.tick_at(now_ns)
        if current <= tick:
            return tick + 1
        return current if self.time_ns(current) == now_ns else current + 1
