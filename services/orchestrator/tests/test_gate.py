from __future__ import annotations

import math

import pytest

from gen2act_orchestrator.domain.gate import EndReason, GateSettings, StageGate


def feed(gate: StageGate, *probabilities: float) -> list[EndReason | None]:
    start = gate.ticks
    return [gate.observe(start + i, p) for i, p in enumerate(probabilities)]


def test_one_sure_tick_is_not_enough() -> None:
    assert feed(StageGate(GateSettings()), 0.1, 0.9, 0.1, 0.9) == [None] * 4


def test_two_sure_ticks_in_a_row_terminate() -> None:
    assert feed(StageGate(GateSettings()), 0.1, 0.5, 0.5)[-1] is EndReason.TERMINATE


def test_the_threshold_itself_counts() -> None:
    gate = StageGate(GateSettings(threshold=0.7, consecutive=1))
    assert feed(gate, 0.69, 0.7) == [None, EndReason.TERMINATE]


def test_budget_ends_an_undecided_rollout() -> None:
    gate = StageGate(GateSettings(max_ticks=3))
    assert feed(gate, 0.1, 0.1, 0.1) == [None, None, EndReason.TICK_BUDGET]


def test_terminating_on_the_last_tick_is_terminating() -> None:
    gate = StageGate(GateSettings(max_ticks=2))
    assert feed(gate, 0.9, 0.9)[-1] is EndReason.TERMINATE


def test_a_tick_reported_twice_counts_once() -> None:
    gate = StageGate(GateSettings(max_ticks=3))
    assert gate.observe(0, 0.9) is None
    assert gate.observe(0, 0.9) is None
    assert gate.observe(1, 0.1) is None
    assert gate.ticks == 2


def test_a_held_tick_says_nothing_about_the_end_but_uses_budget() -> None:
    gate = StageGate(GateSettings(max_ticks=4))
    assert gate.observe(0, 0.9) is None
    assert gate.observe(1, 0.9, held=True) is None
    assert gate.observe(2, 0.1) is None
    assert gate.observe(3, 0.1, held=True) is EndReason.TICK_BUDGET


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0, 1.5])
def test_nonsense_is_no_evidence_of_the_end(nonsense: float) -> None:
    assert feed(StageGate(GateSettings()), 0.9, nonsense, 0.9) == [None] * 3


@pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"threshold": 1.5}, {"consecutive": 0}])
def test_settings_that_could_never_end_a_stage_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gate"):
        GateSettings(**bad)  # type: ignore[arg-type]
