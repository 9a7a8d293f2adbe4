from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gen2act_contracts.errors import GoalExpired
from gen2act_contracts.spec import ActionChunk
from gen2act_robot.fallback import SafetyBounds
from gen2act_robot.policy_link import OutgoingObservation
from gen2act_robot.rollout import EndReason
from gen2act_robot.testing import MOCK_LIMITS, JudgedMockRobot, MockRobot, ScriptedReply, make_spec

MakeBench = Callable[..., Any]  # conftest.Bench
PERIOD_NS = 1e9 / 3


def scripted(**fields: object) -> ScriptedReply:
    return ScriptedReply(**fields)  # type: ignore[arg-type]


def chunk_of(*action: float, gripper: float = 0.0) -> ActionChunk:
    return ActionChunk(
        np.tile(np.array(action, np.float32), (4, 1)), np.full(4, gripper, np.float32)
    )


def only_first(observation: OutgoingObservation) -> ScriptedReply | None:
    return ScriptedReply() if observation.sequence == 1 else None


async def test_each_tick_executes_the_first_action_of_its_own_frames_reply(
    bench: MakeBench,
) -> None:
    made = bench(max_ticks=4)
    outcome = await made.run()
    assert made.moves() == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert outcome.reason is EndReason.MAX_TICKS
    assert outcome.ticks == 4
    assert [tick.number for tick in made.ticks] == [0, 1, 2, 3]
    assert not any(tick.held for tick in made.ticks)


async def test_ticks_begin_at_start_plus_n_periods_whatever_ticks_take(bench: MakeBench) -> None:
    made = bench(max_ticks=300, capture_ms=37.0)
    await made.run()
    start = made.capture_times_ns[0]
    for n, time_ns in enumerate(made.capture_times_ns[:300]):
        assert time_ns == start + round(n * PERIOD_NS)


async def test_a_camera_slower_than_the_period_skips_ticks_and_keeps_the_grid(
    bench: MakeBench,
) -> None:
    made = bench(max_ticks=5, capture_ms=400.0)
    await made.run()
    start = made.capture_times_ns[0]
    for n, time_ns in enumerate(made.capture_times_ns[:5]):
        assert time_ns == start + round(2 * n * PERIOD_NS)


async def test_a_late_reply_gives_its_remaining_actions_to_later_ticks(bench: MakeBench) -> None:
    # Every reply takes 250 ms, the allowance is 200 ms: a tick runs on the frame before its own.
    made = bench(lambda observation: ScriptedReply(delay_ms=250.0), max_ticks=4)
    await made.run()
    assert made.moves() == [(1, 1), (2, 1), (3, 1)]
    assert [tick.held for tick in made.ticks] == [True, False, False, False]


async def test_the_loop_time_is_from_capture_to_action_begun(bench: MakeBench) -> None:
    made = bench(max_ticks=2, capture_ms=20.0)
    await made.run()
    assert [tick.loop_ms for tick in made.ticks] == [35.0, 35.0]  # 20 ms camera, 15 ms reply


async def test_without_allowance_nothing_is_waited_for(bench: MakeBench) -> None:
    made = bench(max_ticks=4, latency_allowance=0.0)
    await made.run()
    assert made.moves() == [(1, 1), (2, 1), (3, 1)]
    assert made.apply_times_ns == made.capture_times_ns[1:4]


async def test_a_lost_policy_finishes_the_chunk_then_holds_then_stops(bench: MakeBench) -> None:
    made = bench(only_first, max_ticks=1000, bounds=SafetyBounds(hold_ms=2000))
    begun_ns = made.clock.now_ns()
    outcome = await made.run()
    assert made.moves() == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert outcome.reason is EndReason.POLICY_LOST
    # 4 periods of chunk, then holding for 2 s after the allowance of the first tick without one
    elapsed_ms = (made.clock.now_ns() - begun_ns) / 1e6
    assert 4 * 333 + 2000 <= elapsed_ms <= 4 * 334 + 2000 + 2 * 334
    calls = [call for call in made.robot.recorded.calls if call != "observe"]
    assert calls == ["apply"] * 4 + ["hold"] * 6 + ["stop"]
    assert made.driver.stop_reason is not None


async def test_a_delta_is_never_executed_twice(bench: MakeBench) -> None:
    def flaky(observation: OutgoingObservation) -> ScriptedReply | None:
        delay_ms = (15.0, 250.0, 500.0, 900.0, 15.0)[observation.sequence % 5]
        return ScriptedReply(delay_ms=delay_ms) if observation.sequence % 7 else None

    made = bench(flaky, max_ticks=200, capture_ms=80.0)
    await made.run()
    moves = made.moves()
    assert len(moves) == len(set(moves)) > 100
    # and time never runs backwards: the period an action is for grows strictly
    periods = [sequence + index for sequence, index in moves]
    assert periods == sorted(set(periods))


async def test_a_stale_reply_never_reaches_the_motor(bench: MakeBench) -> None:
    made = bench(lambda observation: ScriptedReply(delay_ms=1400.0), max_ticks=10)
    await made.run()
    assert made.robot.recorded.actions == []
    assert all(tick.held for tick in made.ticks)


async def test_a_reply_expired_by_the_policys_own_word_never_reaches_the_motor(
    bench: MakeBench,
) -> None:
    made = bench(lambda o: scripted(expires_ns=o.capture_ns + 1), max_ticks=3)
    await made.run()
    assert made.robot.recorded.actions == []


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (chunk_of(np.nan, 0, 0), "not finite"),
        (chunk_of(0, 0, 0, gripper=np.nan), "not finite"),
        (chunk_of(0, 0, 0, gripper=2.0), "gripper"),
        (chunk_of(0.06, 0, 0), "out of bounds"),
        (chunk_of(0.05, 0.05, 0.05), "speed"),
        (chunk_of(0, 0), "shape"),
    ],
)
async def test_an_unsafe_chunk_stops_the_robot_and_never_reaches_the_motor(
    bench: MakeBench, chunk: ActionChunk, message: str
) -> None:
    robot = MockRobot(image_size=64, limits=replace(MOCK_LIMITS, max_speed_m_s=0.2))
    made = bench(lambda observation: ScriptedReply(chunk=chunk), robot=robot)
    outcome = await made.run()
    assert robot.recorded.actions == []
    assert outcome.reason is EndReason.SAFETY
    assert "UNSAFE_ACTION" in outcome.detail
    assert message in outcome.detail
    assert robot.recorded.stops


async def test_the_motion_that_would_leave_the_workspace_is_not_made(bench: MakeBench) -> None:
    made = bench(lambda o: ScriptedReply(chunk=chunk_of(0.05, 0, 0)), max_ticks=100)
    outcome = await made.run()
    assert outcome.reason is EndReason.SAFETY
    assert "workspace" in outcome.detail
    assert 0.9 < made.robot.position_m[0] <= 1.0


async def test_a_robot_that_measures_nan_is_stopped(bench: MakeBench) -> None:
    made = bench()
    made.robot.faults.ee_position_m = (0.0, float("nan"), 0.0)
    outcome = await made.run()
    assert outcome.reason is EndReason.SAFETY
    assert "NON_FINITE" in outcome.detail
    assert made.link.sent == []
    assert made.robot.recorded.actions == []


async def test_a_driver_that_raises_ends_the_rollout_stopped(bench: MakeBench) -> None:
    robot = MockRobot(image_size=64)

    def unplugged(name: str) -> None:
        if name == "apply":
            raise OSError("motor bus is gone")

    robot.faults.on_call = unplugged
    outcome = await bench(robot=robot).run()
    assert outcome.reason is EndReason.SAFETY
    assert "motor bus is gone" in outcome.detail
    assert robot.recorded.stops


async def test_end_command_ends_without_another_motion(bench: MakeBench) -> None:
    made = bench(max_ticks=100)
    # between capture and reply of the third tick
    made.at_ms(2 * 1000 / 3 + 5, lambda: made.rollout.end(EndReason.END_COMMAND, "terminate"))
    outcome = await made.run()
    assert outcome.reason is EndReason.END_COMMAND
    assert outcome.detail == "terminate"
    assert made.moves() == [(1, 0), (2, 0)]
    assert made.robot.recorded.calls[-2:] == ["hold", "observe"]
    assert outcome.last_image is not None
    assert made.robot.recorded.stops == []


async def test_a_stop_during_inference_prevents_the_motion(bench: MakeBench) -> None:
    made = bench(max_ticks=100)

    def stop() -> None:
        made.rollout.end(EndReason.STOPPED, "button")
        made.driver.stop_now("button")

    made.at_ms(5, stop)
    outcome = await made.run()
    assert outcome.reason is EndReason.STOPPED
    assert "button" in outcome.detail
    assert made.robot.recorded.actions == []


async def test_a_pause_holds_keeps_the_budget_and_goes_on_with_fresh_actions(
    bench: MakeBench,
) -> None:
    made = bench(max_ticks=6)
    made.at_ms(1000 + 100, lambda: made.rollout.pause(True))
    made.at_ms(60_000, lambda: made.rollout.pause(False))
    outcome = await made.run()
    assert outcome.reason is EndReason.MAX_TICKS
    # 4 ticks before the pause (at 0, 333, 667 and 1000 ms), 2 after it, no old chunk used
    assert made.moves() == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]
    assert made.robot.recorded.calls.count("hold") > 100  # a minute of holding, once a period
    assert len(made.link.sent) == 6


async def test_a_short_pause_does_not_bring_a_tick_forward(bench: MakeBench) -> None:
    made = bench(max_ticks=3)

    def pause_for_an_instant() -> None:
        made.rollout.pause(True)
        made.rollout.pause(False)

    made.at_ms(100, pause_for_an_instant)
    await made.run()
    start = made.capture_times_ns[0]
    assert made.capture_times_ns[1] == start + round(PERIOD_NS)


async def test_a_dropped_observation_is_not_waited_for(bench: MakeBench) -> None:
    def drop_second(observation: OutgoingObservation) -> ScriptedReply:
        return scripted(delay_ms=5.0, dropped="EXPIRED" if observation.sequence == 2 else "")

    made = bench(drop_second, max_ticks=3)
    await made.run()
    assert made.moves() == [(1, 0), (1, 1), (3, 0)]
    assert made.apply_times_ns[1] - made.capture_times_ns[1] == 5_000_000


async def test_one_terminate_reply_is_reported_for_one_tick_only(bench: MakeBench) -> None:
    def script(observation: OutgoingObservation) -> ScriptedReply | None:
        return scripted(terminate_probability=0.9) if observation.sequence == 1 else None

    made = bench(script, max_ticks=3)
    await made.run()
    assert [tick.terminate_probability for tick in made.ticks] == [0.9, 0.0, 0.0]


async def test_a_session_that_cannot_go_on_ends_at_once(bench: MakeBench) -> None:
    made = bench(only_first, max_ticks=100)
    made.at_ms(500, lambda: made.link.fail(GoalExpired("goal is gone")))
    outcome = await made.run()
    assert outcome.reason is EndReason.POLICY_LOST
    assert "GOAL_EXPIRED" in outcome.detail
    assert made.moves() == [(1, 0)]


async def test_observations_carry_sequence_time_budget_and_proprioception(
    bench: MakeBench,
) -> None:
    made = bench(max_ticks=3, spec=make_spec(uses_proprioception=True))
    await made.run()
    assert [sent.sequence for sent in made.link.sent] == [1, 2, 3]
    assert [sent.capture_ns for sent in made.link.sent] == made.capture_times_ns[:3]
    for sent in made.link.sent:
        assert sent.budget_ms == pytest.approx(1000 / 3)
        assert sent.image.width == sent.image.height == 64
        assert sent.proprioception is not None
        assert sent.proprioception.gripper_opening == 1.0


async def test_the_gripper_closes_at_even_odds(bench: MakeBench) -> None:
    def script(observation: OutgoingObservation) -> ScriptedReply:
        gripper = (0.49, 0.5, 0.51)[observation.sequence - 1]
        return ScriptedReply(chunk=chunk_of(0, 0, 0, gripper=gripper))

    made = bench(script, max_ticks=3)
    await made.run()
    assert [a.gripper_closed for a in made.robot.recorded.actions] == [False, True, True]


async def test_the_outcome_carries_the_simulators_verdict(bench: MakeBench) -> None:
    robot = JudgedMockRobot()
    outcome = await bench(robot=robot, max_ticks=1).run()
    assert outcome.verdict == robot.next_verdict


async def test_the_watchdog_is_fed_by_the_loop_and_disarmed_at_its_end(bench: MakeBench) -> None:
    made = bench(max_ticks=100, bounds=SafetyBounds(watchdog_ms=50.0))
    bites: list[bool] = []

    def check() -> None:
        bites.append(made.watchdog.check())
        made.at_ms(10, check) if len(bites) < 1000 else None

    check()
    await made.run()
    made.clock.spend(10_000)
    assert len(bites) > 900
    assert not any(bites)
    assert not made.watchdog.check()


async def test_a_loop_that_hangs_is_stopped_by_the_watchdog(bench: MakeBench) -> None:
    robot = MockRobot(image_size=64)
    made = bench(robot=robot, max_ticks=100, bounds=SafetyBounds(watchdog_ms=50.0))
    inner = robot.faults.on_call

    def hang_in_second_apply(name: str) -> None:
        inner(name)
        if name == "apply" and len(robot.recorded.actions) == 1:
            made.clock.spend(60.0)  # the call does not return; the watchdog's thread looks
            made.watchdog.check()

    robot.faults.on_call = hang_in_second_apply
    outcome = await made.run()
    assert outcome.reason is EndReason.SAFETY
    assert "watchdog" in outcome.detail
    assert len(robot.recorded.actions) <= 2
