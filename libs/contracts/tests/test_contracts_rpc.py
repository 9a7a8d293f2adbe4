"""The error tree over a real loopback server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from gen2act_contracts import CONTRACT_VERSION, errors, pb, rpc

Context = grpc.aio.ServicerContext[Any, Any]


class NeverTold(errors.Gen2ActError):
    """Makes the server below keep the client waiting."""


class Failing(pb.policy_grpc.PolicyServicer):
    """Ends every call with the error it is told."""

    def __init__(self, error: errors.Gen2ActError) -> None:
        self.error = error

    async def GetSpec(
        self, request: pb.policy.GetSpecRequest, context: Context
    ) -> pb.policy.PolicySpec:
        if isinstance(self.error, NeverTold):
            await asyncio.Event().wait()
        await rpc.abort(context, self.error)

    async def PrepareGoal(
        self, request: pb.policy.PrepareGoalRequest, context: Context
    ) -> pb.policy.PrepareGoalResponse:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no details")
        raise AssertionError

    async def Rollout(
        self, request_iterator: AsyncIterator[pb.policy.RolloutRequest], context: Context
    ) -> AsyncIterator[pb.policy.RolloutReply]:
        yield pb.policy.RolloutReply(opened=pb.policy.RolloutOpened(session_id="s"))
        await rpc.abort(context, self.error)


Serve = Callable[[errors.Gen2ActError], Any]


@pytest.fixture
async def policy_that_fails() -> AsyncIterator[Serve]:
    closing: list[Any] = []

    async def serve(error: errors.Gen2ActError) -> Any:
        server = grpc.aio.server()
        pb.policy_grpc.add_PolicyServicer_to_server(Failing(error), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        closing.extend([lambda: channel.close(), lambda: server.stop(None)])
        return pb.policy_grpc.PolicyStub(channel)

    yield serve
    for close in closing:
        await close()


@contextmanager
def caught() -> Iterator[list[errors.Gen2ActError]]:
    found: list[errors.Gen2ActError] = []
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        yield found
    found.append(rpc.from_rpc_error(failure.value))


def request() -> pb.policy.GetSpecRequest:
    return pb.policy.GetSpecRequest(contract_version=CONTRACT_VERSION)


async def test_every_error_arrives_as_the_same_type(policy_that_fails: Serve) -> None:
    for code in errors.by_code():
        stub = await policy_that_fails(errors.from_code(code, f"why {code}", {"id": "é 7"}))

        with caught() as found:
            await stub.GetSpec(request(), timeout=10)

        assert found[0].code == code
        assert type(found[0]) is errors.by_code()[code]
        assert found[0].message == f"why {code}"
        assert found[0].metadata == {"id": "é 7"}


async def test_an_error_in_the_middle_of_a_stream_arrives_typed(policy_that_fails: Serve) -> None:
    stub = await policy_that_fails(errors.GoalExpired("goal g is gone", goal_id="g"))

    call = stub.Rollout(iter([]), timeout=10)
    assert (await call.read()).opened.session_id == "s"
    with caught() as found:
        await call.read()

    assert type(found[0]) is errors.GoalExpired
    assert found[0].metadata == {"goal_id": "g"}


async def test_a_huge_message_and_lone_surrogates_still_arrive_typed(
    policy_that_fails: Serve,
) -> None:
    stub = await policy_that_fails(
        errors.SpecMismatch("ß\ud800" * 100_000, **{f"k{i}": "v" * 10_000 for i in range(50)})
    )

    with caught() as found:
        await stub.GetSpec(request(), timeout=10)

    assert type(found[0]) is errors.SpecMismatch
    assert found[0].message.startswith("ß?ß?")
    assert found[0].message.endswith("…")


async def test_a_peer_that_is_not_there_is_peer_unavailable() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        with caught() as found:
            await pb.policy_grpc.PolicyStub(channel).GetSpec(request(), timeout=10)

    assert type(found[0]) is errors.PeerUnavailable
    assert found[0].retryable
    assert found[0].message


async def test_a_status_without_details_gets_the_general_type(policy_that_fails: Serve) -> None:
    stub = await policy_that_fails(errors.Internal())

    with caught() as found:
        await stub.PrepareGoal(pb.policy.PrepareGoalRequest(video_id="v"), timeout=10)

    assert type(found[0]) is errors.NotFound
    assert found[0].message == "no details"
    assert found[0].metadata == {"grpc_status": "NOT_FOUND"}


async def test_a_passed_deadline_is_deadline_exceeded(policy_that_fails: Serve) -> None:
    stub = await policy_that_fails(NeverTold("x"))

    with caught() as found:
        await stub.GetSpec(request(), timeout=0.1)

    assert type(found[0]) is errors.DeadlineExceeded


async def test_a_peer_without_the_method_is_a_contract_mismatch(policy_that_fails: Serve) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with caught() as found:
            await pb.policy_grpc.PolicyStub(channel).GetSpec(request(), timeout=10)
    await server.stop(None)

    assert type(found[0]) is errors.ContractMismatch


def test_an_error_takes_the_status_of_its_nearest_ancestor() -> None:
    class Local(errors.RobotIdInUse):
        pass

    assert rpc.status_code(Local("x")) is grpc.StatusCode.ALREADY_EXISTS
    assert rpc.status_code(errors.InvalidTransition("x")) is grpc.StatusCode.FAILED_PRECONDITION
    assert rpc.status_code(errors.Gen2ActError("x")) is grpc.StatusCode.INTERNAL
