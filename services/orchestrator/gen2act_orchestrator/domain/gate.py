"""The stage gate: when a rollout ends (DESIGN.md, "The way of one task", step 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class EndReason(StrEnum):
    """Why a stage's rollout ended."""

    TERMINATE = "terminate"  # the policy said so, debounced
    TICK_BUDGET = "tick_budget"
    STOPPED = "stopped"  # a person stopped the robot
    CANCELLED = "cancelled"
    ROBOT_LOST = "robot_lost"
    POLICY_LOST = "policy_lost"
    SAFETY = "safety"  # the robot's own gate refused an action
    FAULT = "fault"  # anything else; the stage's failure says what


@dataclass(frozen=True)
class GateSettings:
    """When the gate closes.

    Raises:
        ValueError: a threshold outside (0, 1] or a count below 1.
    """

    threshold: float = 0.5  # terminate probability that counts as "done"
    consecutive: int = 2  # so many such ticks in a row: one noisy tick must not end a stage
    max_ticks: int = 60

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"gate threshold must be in (0, 1], not {self.threshold}")
        if self.consecutive < 1 or self.max_ticks < 1:
            raise ValueError("gate counts must be at least 1")


class StageGate:
    """Reads ticks in order and says when the rollout is over. One per rollout."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._streak = 0
        self._last_tick = -1
        self.ticks = 0  # ticks counted

    @property
    def likely_over(self) -> bool:
        """The newest tick was sure of the end; one that is not may still follow."""
        return self._streak > 0

    def observe(
        self, tick: int, terminate_probability: float, *, held: bool = False
    ) -> EndReason | None:
        """Take one tick into account.

        Args:
            tick: number of the tick; one that is not newer than the last is ignored (a robot may
                report again after a reconnect).
            terminate_probability: 0 to 1. Anything else, NaN included, is no evidence of the end.
            held: no fresh action was at hand. The probability is then stale: the tick uses up
                budget but says nothing about the end.

        Returns:
            TERMINATE or TICK_BUDGET when the rollout is over, else None.
        """
        if tick <= self._last_tick:
            return None
        self._last_tick = tick
        self.ticks += 1
        if not held:
            sure = (
                math.isfinite(terminate_probability)
                and self._settings.threshold <= terminate_probability <= 1
            )
            self._streak = self._streak + 1 if sure else 0
            if self._streak >= self._settings.consecutive:
                return EndReason.TERMINATE
        if self.ticks >= self._settings.max_ticks:
            return EndReason.TICK_BUDGET
        return None
