import pytest

from gen2act_policy.cost import Candidate, CostTable, choose_batch, measure


def linear(each: float) -> CostTable:
    return CostTable({2**i: each * 2**i for i in range(6)})


def flat(cost: float) -> CostTable:
    return CostTable({2**i: cost for i in range(6)})


def test_a_plan_holds_every_item() -> None:
    for table in (linear(0.01), flat(0.01)):
        for count in range(1, 100):
            assert sum(table.plan(count)) >= count


def test_linear_costs_are_never_padded() -> None:
    assert sum(linear(0.01).plan(13)) == 13


def test_flat_costs_are_padded_rather_than_split() -> None:
    assert flat(0.01).plan(13) == [16] or flat(0.01).plan(13) == [32]


def test_sizes_other_than_powers_of_two_are_refused() -> None:
    with pytest.raises(ValueError, match="powers of two"):
        CostTable({1: 0.1, 3: 0.2})


def test_a_slower_machine_raises_all_estimates_and_keeps_the_plan() -> None:
    table = linear(0.01)
    plan = table.plan(13)
    for _ in range(100):
        table.update(4, 0.08)  # twice as slow as measured at the start
    assert table.estimate(1) == pytest.approx(0.02, rel=0.01)
    assert table.plan(13) == plan


def test_one_preempted_batch_changes_little() -> None:
    table = linear(0.01)
    table.update(1, 100.0)
    assert table.estimate(1) < 0.02


def test_noise_never_makes_a_small_batch_look_dearer_than_a_large_one() -> None:
    assert CostTable({1: 0.05, 2: 0.01, 4: 0.02}).plan(1) == [1]


def test_measuring_stops_at_batches_that_take_too_long() -> None:
    table = measure(lambda batch: 0.05 * batch, max_batch=64, longest_s=0.25)
    assert table.sizes == [1, 2, 4, 8]


def test_a_machine_that_is_busy_at_the_start_does_not_end_batching() -> None:
    table = measure(lambda batch: 1.0 * batch, max_batch=64, longest_s=0.25)
    assert table.sizes == [1, 2, 4]


def waiting(*deadlines: float) -> list[Candidate]:
    return [Candidate(deadline, 1) for deadline in sorted(deadlines)]


def test_cheaper_together_is_served_together() -> None:
    robots = waiting(*[1.0] * 8)
    assert choose_batch(robots, 0.0, flat(0.01), flat(0.01), 32) == 8


def test_nothing_is_gained_by_waiting_so_the_batch_stays_small() -> None:
    robots = waiting(*[1.0] * 8)
    assert choose_batch(robots, 0.0, linear(0.01), linear(0.01), 32) < 8


def test_a_batch_does_not_make_the_most_urgent_robot_late() -> None:
    half = CostTable({1: 0.05, 2: 0.06, 4: 0.08, 8: 0.12})
    relaxed = waiting(*[1.0] * 8)
    urgent = waiting(0.13, *[1.0] * 7)
    free = flat(1e-6)
    assert choose_batch(relaxed, 0.0, free, half, 32) == 8
    assert choose_batch(urgent, 0.0, free, half, 32) == 8
    urgent = waiting(0.07, *[1.0] * 7)
    assert choose_batch(urgent, 0.0, free, half, 32) == 2


def test_when_everybody_is_late_the_queue_is_worked_off_fastest() -> None:
    late = waiting(*[0.001] * 8)
    assert choose_batch(late, 0.0, flat(0.01), flat(0.01), 32) == 8


def test_the_batch_is_bounded() -> None:
    assert choose_batch(waiting(*[1.0] * 100), 0.0, flat(0.01), flat(0.01), 16) <= 16
