import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_contracts.errors import Gen2ActError, GoalExpired, PeerUnavailable, SpecMismatch
from gen2act_contracts.frames import Frame, encode_jpeg
from gen2act_robot.grpc_policy_link import GrpcPolicyLink
from gen2act_robot.policy_link import OutgoingObservation, PolicyReply
from gen2act_robot.testing import FakePolicyServer, answer, make_spec, until
from gen2act_robot.transport import Backoff

SPEC = make_spec()
IMAGE = encode_jpeg(Frame(np.zeros((64, 64, 3), np.uint8)))


class Heard:
    def __init__(self) -> None:
        self.replies: list[PolicyReply] = []
        self.dropped: list[tuple[int, str]] = []
        self.failed: list[Gen2ActError] = []

    def on_reply(self, reply: PolicyReply) -> None:
        self.replies.append(reply)

    def on_dropped(self, sequence: int, reason: str) -> None:
        self.dropped.append((sequence, reason))

    def on_failed(self, error: Gen2ActError) -> None:
        self.failed.append(error)


def observation(sequence: int) -> OutgoingObservation:
    return OutgoingObservation(
        sequence=sequence,
        capture_ns=sequence * 1000,
        budget_ms=333.0,
        image=IMAGE,
        proprioception=pb.common.Proprioception(ee_position_m=[0, 0, 0], gripper_opening=1),
    )


def link_to(address: str, *, open_timeout_s: float = 30.0) -> GrpcPolicyLink:
    return GrpcPolicyLink(
        address,
        session_id="session",
        goal_id="goal",
        spec=SPEC,
        spec_hash=SPEC.hash,
        open_timeout_s=open_timeout_s,
        backoff=Backoff(initial_s=0.001, maximum_s=0.02),
    )


@asynccontextmanager
async def opened(server: FakePolicyServer) -> AsyncIterator[tuple[GrpcPolicyLink, Heard]]:
    heard = Heard()
    link = link_to(server.address)
    await link.open(heard)
    try:
        yield link, heard
    finally:
        await link.close()


async def test_the_handshake_names_session_goal_version_and_spec() -> None:
    async with FakePolicyServer(SPEC) as server, opened(server):
        opening = server.connections[0][0].open
    assert opening.session_id == "session"
    assert opening.goal_id == "goal"
    assert opening.contract_version == CONTRACT_VERSION
    assert opening.spec_hash == SPEC.hash


async def test_each_observation_is_answered_in_order() -> None:
    async with FakePolicyServer(SPEC) as server, opened(server) as (link, heard):
        for sequence in (1, 2, 3):
            link.send(observation(sequence))
        await until(lambda: len(heard.replies) == 3)
    assert [reply.sequence for reply in heard.replies] == [1, 2, 3]
    assert heard.replies[0].chunk.values.shape == (4, 3)
    assert server.observations[0].capture_monotonic_ns == 1000


async def test_drops_are_passed_on() -> None:
    def drop(got: pb.policy.Observation) -> pb.policy.RolloutReply:
        return pb.policy.RolloutReply(
            dropped=pb.policy.ObservationDropped(sequence=got.sequence, reason="EXPIRED")
        )

    async with FakePolicyServer(SPEC, drop) as server, opened(server) as (link, heard):
        link.send(observation(1))
        await until(lambda: heard.dropped)
    assert heard.dropped == [(1, "EXPIRED")]


async def test_a_reconnect_replays_the_last_eight_frames_as_context() -> None:
    async with FakePolicyServer(SPEC) as server, opened(server) as (link, heard):
        for sequence in range(1, 12):
            link.send(observation(sequence))
            await until(lambda s=sequence: len(heard.replies) == s)  # type: ignore[misc]
        await server.stop()
        await server.start()
        await until(lambda: link.connections == 2)
        link.send(observation(12))
        await until(lambda: len(heard.replies) == 12)
    first, *replay, live = server.connections[1]
    assert first.open.session_id == "session"
    assert [request.observation.sequence for request in replay] == list(range(4, 12))
    assert all(request.observation.replayed for request in replay)
    assert live.observation.sequence == 12
    assert not live.observation.replayed


async def test_the_newest_unanswered_frame_is_asked_again_after_a_reconnect() -> None:
    async with FakePolicyServer(SPEC) as server, opened(server) as (link, heard):
        link.send(observation(1))
        await until(lambda: len(heard.replies) == 1)
        server.answers = lambda got: None  # this replica dies over frame 2
        link.send(observation(2))
        await until(lambda: len(server.observations) == 2)
        await server.stop()
        link.send(observation(3))  # captured while the policy is away
        server.answers = lambda got: answer(got, SPEC)
        await server.start()
        await until(lambda: len(heard.replies) == 2)
    again = [request.observation for request in server.connections[1][1:]]
    assert [(o.sequence, o.replayed) for o in again] == [(1, True), (2, True), (3, False)]
    assert heard.replies[1].sequence == 3


async def test_a_refused_rollout_raises_the_policys_own_error() -> None:
    async with FakePolicyServer(SPEC, refuse=GoalExpired("goal 'goal' has expired")) as server:
        with pytest.raises(GoalExpired, match="has expired"):
            await link_to(server.address).open(Heard())
        assert len(server.connections) == 1  # not asked again


async def test_a_refusal_after_a_reconnect_fails_the_session() -> None:
    async with FakePolicyServer(SPEC) as server, opened(server) as (_, heard):
        server.refuse = GoalExpired("gone")
        await server.stop()
        await server.start()
        await until(lambda: heard.failed)
    assert isinstance(heard.failed[0], GoalExpired)


async def test_a_policy_with_another_model_is_refused() -> None:
    other = FakePolicyServer(SPEC)
    other.model_hash = "f" * 64
    async with other as server:
        with pytest.raises(SpecMismatch, match="ffffffffffff"):
            await link_to(server.address).open(Heard())


async def test_an_unreachable_policy_is_given_up_on_after_the_timeout() -> None:
    server = FakePolicyServer(SPEC)
    await server.start()
    address = server.address
    await server.stop()
    with pytest.raises(PeerUnavailable, match="did not open the rollout within"):
        await link_to(address, open_timeout_s=0.05).open(Heard())


async def test_a_policy_that_comes_up_late_is_waited_for() -> None:
    server = FakePolicyServer(SPEC)
    await server.start()
    await server.stop()
    link = link_to(server.address)
    opening = asyncio.create_task(link.open(Heard()))
    await until(lambda: link.attempts >= 2)
    async with server:
        await opening
        await link.close()
