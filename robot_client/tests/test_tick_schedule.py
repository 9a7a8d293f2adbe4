import pytest

from gen2act_robot.schedule import TickSchedule

HOUR_OF_TICKS = 3 * 3600


def test_a_third_of_a_second_does_not_drift_in_an_hour() -> None:
    schedule = TickSchedule(start_ns=7, period_s=1 / 3)
    assert schedule.time_ns(HOUR_OF_TICKS) == 7 + 3600 * 1_000_000_000


def test_tick_times_do_not_depend_on_when_ticks_were_run() -> None:
    schedule = TickSchedule(start_ns=0, period_s=0.1)
    tick = 0
    for _ in range(1000):
        late_ns = schedule.time_ns(tick) + 30_000_000  # every tick takes 30 ms
        tick = schedule.next_after(tick, late_ns)
    assert tick == 1000
    assert schedule.time_ns(tick) == 100 * 1_000_000_000


def test_every_tick_time_falls_into_its_own_tick() -> None:
    schedule = TickSchedule(start_ns=5, period_s=1 / 3)
    for tick in range(1000):
        assert schedule.tick_at(schedule.time_ns(tick)) == tick
        assert schedule.tick_at(schedule.time_ns(tick + 1) - 1) == tick


def test_missed_ticks_are_skipped_and_not_caught_up_with() -> None:
    schedule = TickSchedule(start_ns=0, period_s=0.1)
    assert schedule.next_after(3, now_ns=750_000_000) == 8


def test_a_tick_that_ends_just_as_the_next_begins_skips_nothing() -> None:
    schedule = TickSchedule(start_ns=0, period_s=0.1)
    assert schedule.next_after(3, now_ns=400_000_000) == 4


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_period_is_refused(period_s: float) -> None:
    with pytest.raises(ValueError, match="period_s"):
        TickSchedule(0, period_s)
