import asyncio

import grpc
import pytest

from gen2act_contracts import errors, pb
from gen2act_servicekit import GrpcService, grpc_client
from gen2act_servicekit.grpc_client import call_with_retry
from gen2act_servicekit.testing import free_port

Stub = pb.policy_grpc.PolicyStub


class Flaky:
    """Fails `failures` times with `error`, then answers."""

    def __init__(self, failures: int, error: errors.Gen2ActError) -> None:
        self.failures = failures
        self.error = error
        self.timeouts: list[float] = []

    async def __call__(self, timeout: float) -> str:
        self.timeouts.append(timeout)
        if len(self.timeouts) <= self.failures:
            raise self.error
        return "answer"


class Waits:
    """Stands in for sleep; remembers how long it was asked to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_a_retryable_failure_is_tried_again_within_the_deadline() -> None:
    call, waits = Flaky(2, errors.Overloaded("full")), Waits()

    answer = await call_with_retry(call, deadline_s=30, attempts=3, idempotent=True, sleep=waits)

    assert answer == "answer"
    assert len(call.timeouts) == 3
    assert all(0 < timeout <= 30 for timeout in call.timeouts)
    assert call.timeouts == sorted(call.timeouts, reverse=True)
    assert all(0 <= wait <= 2 for wait in waits.seconds)


async def test_attempts_are_bounded_and_the_last_failure_is_raised() -> None:
    call = Flaky(9, errors.StoreUnavailable("down"))

    with pytest.raises(errors.StoreUnavailable):
        await call_with_retry(call, deadline_s=30, attempts=3, idempotent=True, sleep=Waits())
    assert len(call.timeouts) == 3


async def test_what_is_not_idempotent_is_called_once() -> None:
    call = Flaky(1, errors.PeerUnavailable("gone"))

    with pytest.raises(errors.PeerUnavailable):
        await call_with_retry(call, deadline_s=30, attempts=3, idempotent=False, sleep=Waits())
    assert len(call.timeouts) == 1


async def test_a_final_failure_is_not_tried_again() -> None:
    call = Flaky(1, errors.VideoExpired("gone"))

    with pytest.raises(errors.VideoExpired):
        await call_with_retry(call, deadline_s=30, attempts=3, idempotent=True, sleep=Waits())
    assert len(call.timeouts) == 1


async def test_a_call_that_never_answers_ends_at_the_deadline() -> None:
    async def never(timeout: float) -> None:
        await asyncio.Event().wait()

    with pytest.raises(errors.DeadlineExceeded, match=r"within 0\.05 s"):
        await call_with_retry(never, deadline_s=0.05, idempotent=True)


async def test_a_peer_that_is_not_there_is_typed() -> None:
    async with grpc_client.channel(f"127.0.0.1:{free_port()}") as channel:
        with pytest.raises(errors.PeerUnavailable):
            await call_with_retry(
                lambda timeout: Stub(channel).GetSpec(pb.policy.GetSpecRequest(), timeout=timeout),
                deadline_s=10,
                attempts=2,
                idempotent=True,
                sleep=Waits(),
            )


async def test_a_service_that_restarts_is_found_again(
    service: GrpcService, servicer: object
) -> None:
    async with grpc_client.channel(service.address) as channel:
        stub = Stub(channel)
        await stub.GetSpec(pb.policy.GetSpecRequest(), timeout=10)
        await service.stop()
        again = GrpcService("policy", port=service.port)
        again.add(
            pb.policy_grpc.add_PolicyServicer_to_server,
            servicer,
            pb.policy.DESCRIPTOR.services_by_name["Policy"],
        )
        await again.start()

        spec = await call_with_retry(
            lambda timeout: stub.GetSpec(
                pb.policy.GetSpecRequest(contract_version=1), timeout=timeout
            ),
            deadline_s=20,
            attempts=100,
            idempotent=True,
        )

        assert spec.contract_version == 1
        await again.stop()


async def test_messages_over_the_client_s_limit_are_refused(service: GrpcService) -> None:
    async with grpc_client.channel(service.address, max_message_mb=1) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await Stub(channel).PrepareGoal(
                pb.policy.PrepareGoalRequest(video_id="x" * (1024 * 1024 + 1)), timeout=10
            )
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
