"""The scheduler by itself: a fake runtime, a clock set by hand, no event loop."""

import contextlib
import queue
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from gen2act_contracts.errors import Internal, InvalidImage, Overloaded
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.cost import CostTable
from gen2act_policy.history import Floats, LazyFrame, Pixels
from gen2act_policy.outcomes import (
    EXPIRED,
    SUPERSEDED,
    Acted,
    Dropped,
    Failed,
    Observation,
    Outcome,
)
from gen2act_policy.scheduler import GOAL_SLICE, Results, Rollout, Scheduler
from gen2act_policy.testing import WAIT_S, FakeRuntime, free_costs

GOAL: Floats = np.zeros((64, 3), np.float32)


class Bench:
    """A running scheduler and what came out of it, in order."""

    def __init__(
        self, spec: ActionSpec, *, costs: CostTable | None = None, workers: int = 1
    ) -> None:
        self.now = 100.0
        self.runtime = FakeRuntime(spec)
        self.posted: queue.Queue[Results] = queue.Queue()
        self.decoder = ThreadPoolExecutor(1)
        self.scheduler = Scheduler(
            self.runtime,
            spec,
            encode_cost=costs or free_costs(),
            step_cost=costs or free_costs(),
            post=self.posted.put,
            decoder=self.decoder,
            clock=lambda: self.now,
            max_goals=2,
            workers=workers,
        )
        self.scheduler.start()

    def open(self) -> Rollout:
        return self.scheduler.open(GOAL)

    def send(
        self,
        rollout: Rollout,
        sequence: int,
        *,
        deadline: float = 1000.0,
        replayed: bool = False,
        error: Exception | None = None,
    ) -> Dropped | None:
        """A frame whose red is its sequence number."""

        def decode() -> Pixels:
            if error is not None:
                raise error
            return np.full((32, 32, 3), sequence, np.uint8)

        return self.scheduler.submit(
            rollout,
            Observation(
                sequence=sequence,
                capture_ns=0,
                received=self.now,
                deadline=deadline,
                frame=LazyFrame(decode),
                proprioception=None,
                replayed=replayed,
            ),
        )

    def results(self) -> Results:
        return self.posted.get(timeout=WAIT_S)

    def one(self) -> Outcome:
        ((_, outcome),) = self.results()
        return outcome

    def hold(self, rollout: Rollout, sequence: int) -> None:
        """Keeps a worker in the step for this frame until the gate is released."""
        self.runtime.gate.hold()
        self.send(rollout, sequence)
        self.runtime.gate.wait_until_held()

    def occupy(self) -> None:
        """Keeps the inference thread in a step until `free`."""
        self.hold(self.open(), 250)

    def free(self) -> None:
        """Ends what `occupy` began."""
        self.runtime.gate.release()
        assert isinstance(self.one(), Acted)


@pytest.fixture
def bench(spec: ActionSpec) -> Iterator[Bench]:
    made = Bench(spec)
    yield made
    made.runtime.gate.release()
    made.scheduler.stop()
    made.decoder.shutdown()


@pytest.fixture
def pair(spec: ActionSpec) -> Iterator[Bench]:
    """With two workers."""
    made = Bench(spec, workers=2)
    yield made
    made.runtime.gate.release()
    made.scheduler.stop()
    made.decoder.shutdown()


def acted_on(outcome: Outcome) -> int:
    """The sequence number of the frame the action was made from."""
    assert isinstance(outcome, Acted)
    spec_low, width = -0.05, 0.1 / 256
    return round((float(outcome.chunk.values[0, 0]) - spec_low) / width - 0.5)


def test_an_observation_is_answered_with_its_own_frame(bench: Bench) -> None:
    rollout = bench.open()
    for sequence in (3, 4, 9):
        assert bench.send(rollout, sequence) is None
        outcome = bench.one()
        assert isinstance(outcome, Acted)
        assert outcome.observation.sequence == acted_on(outcome) == sequence


def test_each_frame_is_encoded_once(bench: Bench) -> None:
    rollout = bench.open()
    for sequence in range(1, 13):
        bench.send(rollout, sequence)
        bench.one()
    assert sum(bench.runtime.encoded) == 12


def test_replayed_frames_fill_the_history_and_get_no_answer(bench: Bench) -> None:
    rollout = bench.open()
    for sequence in range(1, 8):
        bench.send(rollout, sequence, replayed=True)
    bench.send(rollout, 8)
    outcome = bench.one()
    assert acted_on(outcome) == 8
    assert bench.runtime.steps[0][0, :, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert bench.posted.empty()


def test_robots_that_wait_are_served_in_one_batch(bench: Bench) -> None:
    bench.occupy()
    robots = [bench.open() for _ in range(4)]
    for number, robot in enumerate(robots, 1):
        bench.send(robot, number)
    bench.free()
    results = dict(bench.results())
    assert [acted_on(results[robot]) for robot in robots] == [1, 2, 3, 4]
    assert [outcome.timing.batch for outcome in results.values() if isinstance(outcome, Acted)] == (
        [4] * 4
    )
    assert len(bench.runtime.steps) == 2


def test_each_robot_of_a_batch_keeps_its_own_goal(bench: Bench) -> None:
    bench.occupy()
    for number in (1, 2):
        rollout = bench.scheduler.open(np.full((64, 3), number, np.float32))
        bench.send(rollout, number)
    bench.free()
    bench.results()
    assert bench.runtime.goals[-1][:, 0, 0].tolist() == [1.0, 2.0]


def test_the_earliest_deadline_is_served_first(spec: ActionSpec) -> None:
    linear = CostTable({2**i: 0.01 * 2**i for i in range(6)})  # batching gains nothing
    bench = Bench(spec, costs=linear)
    try:
        bench.occupy()
        for sequence, deadline in ((1, 130.0), (2, 110.0), (3, 120.0)):
            bench.send(bench.open(), sequence, deadline=deadline)
        bench.free()
        served = [acted_on(outcome) for _ in range(3) for _, outcome in bench.results()]
        assert served == [2, 3, 1]
    finally:
        bench.scheduler.stop()
        bench.decoder.shutdown()


def test_an_expired_observation_never_reaches_the_model(bench: Bench) -> None:
    bench.occupy()
    late = bench.open()
    bench.send(late, 7, deadline=101.0)
    steps, encoded = len(bench.runtime.steps), sum(bench.runtime.encoded)
    bench.now = 102.0
    bench.free()
    outcome = bench.one()
    assert isinstance(outcome, Dropped)
    assert (outcome.reason, outcome.observation.sequence) == (EXPIRED, 7)
    assert outcome.timing.total == pytest.approx(2.0)
    assert len(bench.runtime.steps) == steps
    assert sum(bench.runtime.encoded) == encoded


def test_an_expired_frame_still_belongs_to_the_history(bench: Bench) -> None:
    rollout = bench.open()
    bench.send(rollout, 1)
    bench.one()
    bench.send(rollout, 2, deadline=50.0)  # expired on arrival
    assert isinstance(bench.one(), Dropped)
    bench.send(rollout, 3)
    bench.one()
    assert bench.runtime.steps[-1][0, :, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 2, 3]


def test_a_newer_observation_supersedes_an_unserved_one_but_keeps_its_frame(bench: Bench) -> None:
    bench.occupy()
    rollout = bench.open()
    assert bench.send(rollout, 1) is None
    dropped = bench.send(rollout, 2)
    assert dropped is not None
    assert (dropped.reason, dropped.observation.sequence) == (SUPERSEDED, 1)
    bench.free()
    assert acted_on(bench.one()) == 2
    assert bench.runtime.steps[-1][0, :, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 1, 2]


def test_frames_that_fell_out_of_the_history_are_never_encoded(bench: Bench) -> None:
    bench.occupy()
    rollout = bench.open()
    for sequence in range(1, 31):
        bench.send(rollout, sequence)
    before = sum(bench.runtime.encoded)
    bench.free()
    bench.one()
    assert sum(bench.runtime.encoded) - before <= 8


def test_a_bad_image_fails_its_own_rollout_only(bench: Bench) -> None:
    bench.occupy()
    bad, good = bench.open(), bench.open()
    bench.send(bad, 1, error=InvalidImage("truncated"))
    bench.send(good, 2)
    bench.free()
    results = dict(bench.results())
    failed = results[bad]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, InvalidImage)
    assert acted_on(results[good]) == 2


def test_inference_goes_on_after_the_model_failed(bench: Bench) -> None:
    bench.runtime.fail = RuntimeError("out of memory")
    bench.send(bench.open(), 1)
    outcome = bench.one()
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, Internal)
    bench.runtime.fail = None
    bench.send(bench.open(), 2)
    assert acted_on(bench.one()) == 2


def test_a_non_finite_output_is_an_error_not_an_action(bench: Bench) -> None:
    bench.runtime.broken_output = True
    bench.send(bench.open(), 1)
    outcome = bench.one()
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, Internal)


def test_a_closed_rollout_is_not_served(bench: Bench) -> None:
    bench.occupy()
    gone, stays = bench.open(), bench.open()
    bench.send(gone, 1)
    bench.send(stays, 2)
    bench.scheduler.close(gone)
    bench.free()
    ((rollout, _),) = bench.results()
    assert rollout is stays


def test_two_workers_serve_two_robots_at_a_time(pair: Bench) -> None:
    pair.hold(pair.open(), 1)
    pair.hold(pair.open(), 2)
    assert len(pair.runtime.steps) == 2
    assert pair.posted.empty()
    pair.runtime.gate.release()
    assert {acted_on(pair.one()), acted_on(pair.one())} == {1, 2}


def test_a_robot_is_served_by_one_worker_at_a_time(pair: Bench) -> None:
    robot, other = pair.open(), pair.open()
    pair.hold(robot, 1)
    pair.send(robot, 2)  # the idle worker leaves it alone
    pair.hold(other, 3)
    assert [step[:, -1, 0, 0].tolist() for step in pair.runtime.steps] == [[1], [3]]
    pair.runtime.gate.release()
    outcomes = [pair.results()[0] for _ in range(3)]
    assert [acted_on(outcome) for served, outcome in outcomes if served is robot] == [1, 2]
    assert sum(pair.runtime.encoded) == 3


def test_a_goal_is_made_by_one_worker_at_a_time(pair: Bench) -> None:
    goals = [pair.scheduler.encode_goal(goal_frames()) for _ in range(2)]
    first, second = (goal.result(WAIT_S) for goal in goals)
    np.testing.assert_array_equal(first, second)
    assert pair.runtime.encoded == [GOAL_SLICE] * (2 * 16 // GOAL_SLICE)


def goal_frames() -> Pixels:
    return np.stack([np.full((32, 32, 3), number, np.uint8) for number in range(16)])


def test_a_goal_is_encoded_in_slices_between_steps(bench: Bench) -> None:
    bench.occupy()
    before = len(bench.runtime.encoded)
    goal = bench.scheduler.encode_goal(goal_frames())
    bench.free()
    expected = bench.runtime.resample(
        np.arange(16, dtype=np.float32)[:, None, None].repeat(3, 2)[None]
    )
    np.testing.assert_allclose(goal.result(WAIT_S), expected)
    assert bench.runtime.encoded[before:] == [GOAL_SLICE] * (16 // GOAL_SLICE)


def test_robots_are_served_while_a_goal_is_made(bench: Bench) -> None:
    bench.occupy()
    goal = bench.scheduler.encode_goal(goal_frames())
    bench.send(bench.open(), 5)
    encoded_before = len(bench.runtime.encoded)
    bench.free()
    assert acted_on(bench.one()) == 5
    goal.result(WAIT_S)
    # After the held step: one slice of the goal at most, then the robot's frame, then the rest.
    assert 1 in bench.runtime.encoded[encoded_before : encoded_before + 2]


def test_too_many_goals_are_refused(bench: Bench) -> None:
    bench.occupy()
    waiting = [bench.scheduler.encode_goal(goal_frames()) for _ in range(2)]
    with pytest.raises(Overloaded):
        bench.scheduler.encode_goal(goal_frames())
    bench.free()
    for goal in waiting:
        goal.result(WAIT_S)
    bench.scheduler.encode_goal(goal_frames()).result(WAIT_S)


def test_stopping_refuses_goals_that_wait(bench: Bench) -> None:
    bench.occupy()
    goal = bench.scheduler.encode_goal(goal_frames())
    bench.runtime.gate.release()
    bench.scheduler.stop()
    with contextlib.suppress(CancelledError):  # it may have been finished just before
        goal.result(WAIT_S)
    with pytest.raises(Overloaded):
        bench.scheduler.encode_goal(goal_frames())
