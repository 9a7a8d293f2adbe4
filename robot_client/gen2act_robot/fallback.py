"""What a tick does when no valid action is at hand: hold, then, after a bound, stop."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Fallback(enum.Enum):
    HOLD = "hold"
    STOP = "stop"


@dataclass(frozen=True)
class SafetyBounds:
    """How long the robot goes on without news, in milliseconds.

    The valid chunk is finished first; its own bound is chunk_length * control_period after capture
    (1,333 ms with the first policy), set by the action spec.
    """

    hold_ms: float = 20_000.0  # [ms] holding before the robot stops and the rollout ends
    watchdog_ms: float = 3_000.0  # [ms] a loop that does not come round for so long is stopped

    def __post_init__(self) -> None:
        if not self.hold_ms > 0 or not self.watchdog_ms > 0:
            raise ValueError(f"bounds must be positive milliseconds, got {self}")


class FallbackPolicy:
    """Counts from the first moment without an action; an executed action resets it."""

    def __init__(self, bounds: SafetyBounds) -> None:
        self._hold_ns = int(bounds.hold_ms * 1e6)
        self._missing_since_ns: int | None = None

    def acted(self) -> None:
        self._missing_since_ns = None

    def missing(self, now_ns: int) -> Fallback:
        """What to do in a tick without a valid action at `now_ns` (monotonic)."""
        if self._missing_since_ns is None:
            self._missing_since_ns = now_ns
        if now_ns - self._missing_since_ns >= self._hold_ns:
            return Fallback.STOP
        return Fallback.HOLD

    def held_ms(self, now_ns: int) -> float:
        since = self._missing_since_ns
        return 0.0 if since is None else (now_ns - since) / 1e6
