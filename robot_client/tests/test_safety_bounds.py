import threading

import pytest

from gen2act_robot.fallback import Fallback, FallbackPolicy, SafetyBounds
from gen2act_robot.watchdog import Watchdog


def test_holding_turns_into_stopping_at_the_bound() -> None:
    fallback = FallbackPolicy(SafetyBounds(hold_ms=1000))
    assert fallback.missing(0) is Fallback.HOLD
    assert fallback.missing(999_000_000) is Fallback.HOLD
    assert fallback.missing(1_000_000_000) is Fallback.STOP


def test_an_executed_action_starts_the_bound_anew() -> None:
    fallback = FallbackPolicy(SafetyBounds(hold_ms=1000))
    fallback.missing(0)
    fallback.acted()
    assert fallback.missing(1_500_000_000) is Fallback.HOLD
    assert fallback.held_ms(1_600_000_000) == 100


@pytest.mark.parametrize("bad", [{"hold_ms": 0}, {"watchdog_ms": -1}, {"hold_ms": float("nan")}])
def test_senseless_bounds_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        SafetyBounds(**bad)


def test_the_watchdog_stops_once_when_it_is_not_fed() -> None:
    now = [0]
    reasons: list[str] = []
    watchdog = Watchdog(reasons.append, limit_ms=100, now_ns=lambda: now[0])
    assert not watchdog.check()  # not armed
    watchdog.feed()
    now[0] = 99_000_000
    assert not watchdog.check()
    now[0] = 100_000_000
    assert watchdog.check()
    assert not watchdog.check()
    assert len(reasons) == 1


def test_the_watchdog_waits_longer_where_waiting_is_expected() -> None:
    now = [0]
    watchdog = Watchdog(lambda reason: None, limit_ms=100, now_ns=lambda: now[0])
    watchdog.feed(expected_ms=50)
    now[0] = 149_000_000
    assert not watchdog.check()
    watchdog.disarm()
    now[0] = 10**12
    assert not watchdog.check()


def test_the_watchdog_thread_stops_a_hung_loop_by_itself() -> None:
    stopped = threading.Event()
    watchdog = Watchdog(lambda reason: stopped.set(), limit_ms=1)
    watchdog.start()
    watchdog.feed()
    assert stopped.wait(timeout=30)
    watchdog.close()
