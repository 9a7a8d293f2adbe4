"""The whole client between a fake orchestrator and a fake policy, over real gRPC."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_contracts.errors import ContractMismatch, Internal, RobotIdInUse, StoreUnavailable
from gen2act_contracts.frames import decode
from gen2act_robot import ClientConfig, LoopConfig, Robot, RobotClient, SafetyBounds
from gen2act_robot.testing import (
    Attachment,
    FakeOrchestrator,
    FakePolicyServer,
    JudgedMockRobot,
    MockRobot,
    answer,
    make_spec,
    until,
)
from gen2act_robot.transport import Backoff

SPEC = make_spec()


def quick_backoff() -> Backoff:
    return Backoff(initial_s=0.001, maximum_s=0.02)


def config(orchestrator: str, policy: str = "", **loop: object) -> ClientConfig:
    return ClientConfig(
        robot_id="arm-1",
        orchestrator=orchestrator,
        loop=LoopConfig(policy_address=policy, **loop),  # type: ignore[arg-type]
        fast=True,
        in_use_attempts=3,
        backoff=quick_backoff,
        in_use_backoff=quick_backoff,
    )


class System:
    def __init__(self, orchestrator: FakeOrchestrator, policy: FakePolicyServer) -> None:
        self.orchestrator = orchestrator
        self.policy = policy
        self.client: RobotClient
        self.attachment: Attachment
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None]


@asynccontextmanager
async def system(robot: Robot, **loop: object) -> AsyncIterator[System]:
    async with FakeOrchestrator() as orchestrator, FakePolicyServer(SPEC) as policy:
        made = System(orchestrator, policy)
        made.client = RobotClient(robot, config(orchestrator.address, policy.address, **loop))
        made.task = asyncio.create_task(made.client.run(made.stop))
        made.attachment = await orchestrator.attached()
        try:
            yield made
        finally:
            made.stop.set()
            await made.task


async def test_hello_says_what_the_robot_is() -> None:
    async with system(MockRobot()) as running:
        hello = running.attachment.hello
        assert hello.robot_id == "arm-1"
        assert hello.contract_version == CONTRACT_VERSION
        assert hello.driver == "mock"
        assert [d.name for d in hello.dimensions] == ["dx", "dy", "dz"]
        assert hello.frame == "world"
        assert hello.instance_id
        await until(lambda: running.attachment.heartbeats >= 2)


async def test_a_reset_sends_the_scene_frame() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        result = await running.attachment.reset("open the drawer")
    assert result.ok
    assert decode(result.scene.image).size == 224
    assert result.scene.simulator_state == b""
    assert robot.recorded.resets[0].task == "open the drawer"
    assert robot.recorded.resets[0].new_scene


async def test_simulated_robots_attach_state_and_verdict() -> None:
    robot = JudgedMockRobot(state=b"whole world")
    async with system(robot) as running:
        attachment = running.attachment
        assert (await attachment.reset()).scene.simulator_state == b"whole world"
        assert (await attachment.start_rollout(SPEC, max_ticks=2)).ok
        await until(lambda: attachment.ended)
        assert robot.stages == ["open the drawer"]
        assert attachment.ended[0].verdict.success
        assert attachment.ended[0].HasField("verdict")


async def test_a_rollout_reports_ticks_and_ends_by_itself_at_the_budget() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment = running.attachment
        await attachment.reset()
        assert (await attachment.start_rollout(SPEC, max_ticks=7)).ok
        await until(lambda: attachment.ended)
        ended = attachment.ended[0]
        await until(lambda: len(attachment.ticks) == 7)
    assert (ended.stage_id, ended.reason, ended.ticks) == ("stage", "MAX_TICKS", 7)
    assert decode(ended.last_image).size == 64
    assert not ended.HasField("verdict")
    assert [tick.tick for tick in attachment.ticks] == list(range(7))
    assert all(tick.stage_id == "stage" and not tick.held for tick in attachment.ticks)
    assert decode(attachment.ticks[0].image).size == 64
    assert len(robot.recorded.actions) == 7


async def test_the_robot_goes_on_after_terminate_until_it_is_told_to_end() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment = running.attachment
        running.policy.answers = lambda got: answer(got, SPEC, (0, 0, 0), terminate=0.99)
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 20)
        assert attachment.ticks[5].terminate_probability == pytest.approx(0.99)
        end = pb.robot.EndRollout(stage_id="stage", reason="terminate")
        assert (await attachment.command(end_rollout=end)).ok
        await until(lambda: attachment.ended)
        assert attachment.ended[0].reason == "END_COMMAND"
        assert robot.recorded.stops == []


async def test_ending_a_stage_that_does_not_run_is_refused() -> None:
    async with system(MockRobot()) as running:
        result = await running.attachment.command(
            end_rollout=pb.robot.EndRollout(stage_id="another")
        )
        assert not result.ok
        assert result.error_code == "INVALID_TRANSITION"
        assert "another" in result.error_message


@pytest.mark.parametrize("by", ["end", "stop"])
async def test_a_rollout_ended_while_it_is_being_opened_never_begins(by: str) -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment, policy = running.attachment, running.policy
        await policy.stop()  # opening waits for the policy
        start = attachment.post(
            start_rollout=pb.robot.StartRollout(
                stage_id="stage",
                action_spec=SPEC.to_proto(),
                spec_hash=SPEC.hash,
                max_ticks=10,
            )
        )
        await until(lambda: "observe" in robot.recorded.calls)
        if by == "end":
            ended = await attachment.command(end_rollout=pb.robot.EndRollout(stage_id="stage"))
            assert ended.error_code == "INVALID_TRANSITION"
        else:
            assert (await attachment.command(stop=pb.robot.Stop(reason="red button"))).ok
        await policy.start()
        result = await attachment.result(start)
        assert result.error_code == ("INVALID_TRANSITION" if by == "end" else "ROBOT_STOPPED")
        assert attachment.ended == []
        if by == "end":  # the same stage may begin later
            assert (await attachment.start_rollout(SPEC, max_ticks=1)).ok
            await until(lambda: attachment.ended)
    assert len(robot.recorded.actions) == (1 if by == "end" else 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (make_spec(frame="base"), "frame"),
        (make_spec(low=-0.2, high=0.2), "bounds"),
        (make_spec(control_period_s=0.0001), "period"),
        (replace(SPEC, dimensions=SPEC.dimensions[:2]), "dimensions"),
    ],
)
async def test_a_spec_that_does_not_fit_is_refused_before_anything_moves(
    spec: object, message: str
) -> None:
    robot = MockRobot()
    async with system(robot) as running:
        await running.attachment.reset()
        result = await running.attachment.start_rollout(spec)  # type: ignore[arg-type]
        assert not result.ok
        assert result.error_code == "SPEC_MISMATCH"
        assert message in result.error_message
        assert running.policy.connections == []
    assert robot.recorded.actions == []


async def test_a_spec_hash_that_does_not_match_the_spec_is_refused() -> None:
    async with system(MockRobot()) as running:
        result = await running.attachment.start_rollout(SPEC, spec_hash="0" * 64)
        assert result.error_code == "SPEC_MISMATCH"


async def test_a_robot_without_proprioception_is_refused_where_it_is_needed() -> None:
    robot = MockRobot()
    robot.faults.blind = True
    async with system(robot) as running:
        spec = make_spec(uses_proprioception=True)
        result = await running.attachment.start_rollout(spec)
        assert result.error_code == "SPEC_MISMATCH"
        assert "proprioception" in result.error_message


async def test_a_policy_with_another_spec_is_refused_before_anything_moves() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        running.policy.spec = make_spec(chunk_length=8)
        result = await running.attachment.start_rollout(SPEC)
        assert result.error_code == "SPEC_MISMATCH"
    assert robot.recorded.actions == []


async def test_stop_is_obeyed_until_the_next_reset() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment = running.attachment
        running.policy.answers = lambda got: answer(got, SPEC, (0, 0, 0))
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 3)
        assert (await attachment.command(stop=pb.robot.Stop(reason="red button"))).ok
        actions = len(robot.recorded.actions)
        await until(lambda: attachment.ended)
        assert attachment.ended[0].reason == "STOPPED"
        assert attachment.ended[0].detail == "red button"
        assert robot.recorded.stops
        refused = await attachment.start_rollout(SPEC)
        assert refused.error_code == "ROBOT_STOPPED"
        assert len(robot.recorded.actions) == actions
        await attachment.reset()
        assert (await attachment.start_rollout(SPEC, max_ticks=1)).ok


async def test_a_stop_is_not_undone_by_a_reset_that_was_sent_before_it() -> None:
    robot = MockRobot()
    entered, release = threading.Event(), threading.Event()

    def slow_reset(name: str) -> None:
        if name == "reset":
            entered.set()
            assert release.wait(30)

    robot.faults.on_call = slow_reset
    async with system(robot) as running:
        attachment = running.attachment
        first = attachment.post(reset_and_capture=pb.robot.ResetAndCapture(task_id="1"))
        second = attachment.post(reset_and_capture=pb.robot.ResetAndCapture(task_id="2"))
        await until(entered.is_set)
        assert (await attachment.command(stop=pb.robot.Stop(reason="red button"))).ok
        release.set()
        assert (await attachment.result(first)).error_code == "ROBOT_STOPPED"
        assert (await attachment.result(second)).error_code == "ROBOT_STOPPED"
        assert (await attachment.start_rollout(SPEC)).error_code == "ROBOT_STOPPED"
        assert len(robot.recorded.resets) <= 1


async def test_pause_holds_and_resume_goes_on() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment = running.attachment
        running.policy.answers = lambda got: answer(got, SPEC, (0, 0, 0))
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 3)
        assert (await attachment.command(hold=pb.robot.Hold(on=True))).ok
        await until(lambda: "hold" in robot.recorded.calls)
        actions = len(robot.recorded.actions)
        assert (await attachment.command(hold=pb.robot.Hold(on=False))).ok
        await until(lambda: len(robot.recorded.actions) > actions)
        assert attachment.ended == []
        assert len(running.policy.connections) == 1


async def test_a_policy_that_restarts_is_picked_up_again_with_history() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment, policy = running.attachment, running.policy
        policy.answers = lambda got: answer(got, SPEC, (0, 0, 0))
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 10)
        await policy.stop()
        await policy.start()
        await until(lambda: len(policy.connections) == 2)
        reached = len(attachment.ticks)
        await until(lambda: len(attachment.ticks) > reached + 5)
        assert attachment.ended == []
        replayed = [r for r in policy.connections[1] if r.observation.replayed]
        assert 7 <= len(replayed) <= 8


async def test_a_policy_that_stays_away_ends_the_rollout_stopped() -> None:
    robot = MockRobot()
    # In fast mode time passes by the patience (5 s) when replies fail to come; 1 ms is over soon.
    async with system(robot, bounds=SafetyBounds(hold_ms=1.0)) as running:
        attachment = running.attachment
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 3)
        running.policy.answers = lambda got: pb.policy.RolloutReply(
            dropped=pb.policy.ObservationDropped(sequence=got.sequence, reason="EXPIRED")
        )
        await until(lambda: attachment.ended)
        assert attachment.ended[0].reason == "POLICY_LOST"
        assert "no valid action" in attachment.ended[0].detail
        assert robot.recorded.stops


async def test_an_unsafe_policy_stops_the_robot() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment = running.attachment
        running.policy.answers = lambda got: answer(got, SPEC, (float("nan"), 0, 0))
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: attachment.ended)
        assert attachment.ended[0].reason == "SAFETY"
        assert "UNSAFE_ACTION" in attachment.ended[0].detail
    assert robot.recorded.actions == []
    assert robot.recorded.stops


async def test_a_lost_orchestrator_makes_the_robot_hold_and_reattach() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment, orchestrator = running.attachment, running.orchestrator
        running.policy.answers = lambda got: answer(got, SPEC, (0, 0, 0))
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 3)
        await orchestrator.stop()
        await until(lambda: robot.recorded.calls[-1] == "hold")
        actions = len(robot.recorded.actions)
        await orchestrator.start()
        again = await orchestrator.attached(2)
        assert again.hello.instance_id == attachment.hello.instance_id
        assert len(robot.recorded.actions) == actions
        assert robot.recorded.stops == []
        await again.reset()
        assert (await again.start_rollout(SPEC, max_ticks=2)).ok
        await until(lambda: again.ended)


async def test_an_attachment_closed_in_order_by_the_orchestrator_is_taken_up_again() -> None:
    async with system(MockRobot()) as running:
        running.attachment.close()
        await running.orchestrator.attached(2)


async def test_the_robot_keeps_asking_while_the_orchestrator_is_unwell() -> None:
    for error in (StoreUnavailable("redis is down"), Internal("defect 123")):
        async with FakeOrchestrator(refuse=error) as orchestrator:
            stop = asyncio.Event()
            client = RobotClient(MockRobot(), config(orchestrator.address))
            task = asyncio.create_task(client.run(stop))
            await until(lambda o=orchestrator: o.attempts > 5)  # type: ignore[misc]
            orchestrator.refuse = None
            await orchestrator.attached()
            stop.set()
            await task


async def test_a_second_robot_with_the_same_id_is_told_so_and_gives_up() -> None:
    async with system(MockRobot()) as running:
        second = RobotClient(MockRobot(), config(running.orchestrator.address))
        with pytest.raises(RobotIdInUse, match=r"arm-1.*Give each robot its own id"):
            await second.run(asyncio.Event())
        assert running.orchestrator.attempts == 1 + 3
        assert (await running.attachment.reset()).ok  # the first is untouched


async def test_another_contract_version_ends_the_client_at_once() -> None:
    async with FakeOrchestrator(refuse=ContractMismatch("this is version 2")) as orchestrator:
        client = RobotClient(MockRobot(), config(orchestrator.address))
        with pytest.raises(ContractMismatch, match="version 2"):
            await client.run(asyncio.Event())
        assert orchestrator.attempts == 1


async def test_stopping_the_client_holds_detaches_in_order_and_closes_the_driver() -> None:
    robot = MockRobot()
    async with system(robot) as running:
        attachment = running.attachment
        running.policy.answers = lambda got: answer(got, SPEC, (0, 0, 0))
        await attachment.reset()
        await attachment.start_rollout(SPEC)
        await until(lambda: len(attachment.ticks) > 3)
        running.stop.set()
        await running.task
        assert attachment.closed_by_robot
        assert attachment.ended == []  # the end of the lease says it
    assert robot.recorded.calls[-2:] == ["hold", "close"]
    assert robot.recorded.stops == []


async def test_a_driver_error_in_a_reset_is_answered_and_the_robot_stays_attached() -> None:
    robot = MockRobot()

    def broken(name: str) -> None:
        if name == "reset":
            raise OSError("no power")

    async with system(robot) as running:
        robot.faults.on_call = broken
        result = await running.attachment.reset()
        assert result.error_code == "INTERNAL"
        assert "no power" in result.error_message
        robot.faults.on_call = lambda name: None
        assert (await running.attachment.reset()).ok


async def test_an_empty_command_is_answered_with_an_error() -> None:
    async with system(MockRobot()) as running:
        result = await running.attachment.command()
        assert result.error_code == "INVALID_INPUT"


async def test_a_rollout_without_ticks_is_refused() -> None:
    async with system(MockRobot()) as running:
        result = await running.attachment.start_rollout(SPEC, max_ticks=0)
        assert result.error_code == "INVALID_INPUT"


async def test_the_policy_named_by_the_orchestrator_is_used() -> None:
    async with system(MockRobot()) as running, FakePolicyServer(SPEC) as other:
        attachment = running.attachment
        await attachment.start_rollout(SPEC, policy_address=other.address, max_ticks=2)
        await until(lambda: attachment.ended)
        assert len(other.connections) == 1
        assert running.policy.connections == []


async def test_frames_are_sent_at_the_policys_size_whatever_the_camera_has() -> None:
    robot = MockRobot(image_size=300)
    async with system(robot) as running:
        await running.attachment.start_rollout(SPEC, max_ticks=1)
        await until(lambda: running.attachment.ended)
        image = running.policy.observations[0].image
        assert (image.width, image.height) == (64, 64)
        assert np.asarray(decode(image).pixels).shape == (64, 64, 3)
