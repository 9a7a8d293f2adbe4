"""Errors, limits and metrics at the edge of a served method."""

import urllib.request
from typing import Any

import grpc
import pytest
from echo_policy import open_rollout
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gen2act_contracts import errors, pb, rpc
from gen2act_servicekit import GrpcService
from gen2act_servicekit.testing import eventually

Stub = pb.policy_grpc.PolicyStub


async def prepare(stub: Stub, what: str) -> errors.Gen2ActError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.PrepareGoal(pb.policy.PrepareGoalRequest(video_id=what), timeout=10)
    return rpc.from_rpc_error(failure.value)


async def roll(stub: Stub, session: str) -> errors.Gen2ActError:
    call: Any = stub.Rollout(iter([open_rollout("first"), open_rollout(session)]), timeout=10)
    assert (await call.read()).opened.session_id == "first"
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    return rpc.from_rpc_error(failure.value)


async def test_a_typed_error_arrives_typed_from_a_call_and_from_a_stream(stub: Stub) -> None:
    failed = await prepare(stub, "typed")
    broken = await roll(stub, "typed")

    assert type(failed) is errors.VideoExpired
    assert failed.metadata == {"video_id": "v"}
    assert type(broken) is errors.GoalExpired
    assert broken.metadata == {"goal_id": "g"}


@pytest.mark.parametrize("where", [prepare, roll])
async def test_a_defect_is_told_by_its_id_and_logged_in_full(stub: Stub, where: object) -> None:
    with capture_logs() as events:
        failed = await where(stub, "defect")  # type: ignore[operator]

    assert type(failed) is errors.Internal
    assert "secret" not in failed.message + str(failed.metadata)
    logged = next(event for event in events if event["event"] == "defect")
    assert logged["error_id"] == failed.metadata["error_id"]
    assert logged["error_id"] in failed.message
    assert "secret" in str(logged["exc_info"])


async def test_the_service_goes_on_after_errors(stub: Stub) -> None:
    for what in ("typed", "defect", "abort"):
        await prepare(stub, what)

    reply = await stub.PrepareGoal(pb.policy.PrepareGoalRequest(video_id="v"), timeout=10)
    assert reply.goal_id == "v"


async def test_a_method_s_own_abort_passes(stub: Stub) -> None:
    failed = await prepare(stub, "abort")

    assert failed.message == "own words"
    assert failed.metadata == {"grpc_status": "DATA_LOSS"}


async def test_a_failed_call_to_another_service_is_told_as_such(stub: Stub) -> None:
    assert type(await prepare(stub, "peer")) is errors.PeerUnavailable


async def test_a_message_over_the_limit_is_refused_and_the_service_goes_on(stub: Stub) -> None:
    failed = await prepare(stub, "x" * (1024 * 1024 + 1))

    assert type(failed) is errors.InvalidInput
    assert "1048576" in failed.message
    reply = await stub.PrepareGoal(
        pb.policy.PrepareGoalRequest(video_id="x" * (1024 * 1024 - 100)), timeout=10
    )
    assert len(reply.goal_id) == 1024 * 1024 - 100


async def test_a_cancelled_stream_runs_the_methods_cleanup(stub: Stub, servicer: object) -> None:
    call: Any = stub.Rollout(timeout=30)
    await call.write(open_rollout("first"))
    await call.read()
    call.cancel()

    await eventually(servicer.cleaned_up.is_set)  # type: ignore[attr-defined]


def sample(service: GrpcService, name: str, **labels: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}/metrics") as reply:
        text = reply.read().decode()
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


async def test_calls_are_counted_by_method_and_status(service: GrpcService, stub: Stub) -> None:
    method = "/gen2act.v1.Policy/PrepareGoal"
    handled = "gen2act_rpc_handled_total"
    codes = ("OK", "NOT_FOUND", "INTERNAL", "DATA_LOSS")
    before = {code: sample(service, handled, method=method, code=code) for code in codes}

    await stub.PrepareGoal(pb.policy.PrepareGoalRequest(video_id="v"), timeout=10)
    for what in ("typed", "defect", "abort"):
        await prepare(stub, what)

    after = {code: sample(service, handled, method=method, code=code) for code in codes}
    assert after == {code: count + 1 for code, count in before.items()}


async def test_a_running_stream_is_active_until_it_is_cancelled(
    service: GrpcService, stub: Stub
) -> None:
    labels = {"method": "/gen2act.v1.Policy/Rollout"}
    handled = sample(service, "gen2act_rpc_handled_total", **labels)
    call: Any = stub.Rollout(timeout=30)
    await call.write(open_rollout("first"))
    await call.read()

    assert sample(service, "gen2act_rpc_active", **labels) == 1
    call.cancel()
    await eventually(lambda: sample(service, "gen2act_rpc_active", **labels) == 0)
    assert sample(service, "gen2act_rpc_handled_total", **labels) == handled + 1


NOT_UTF8 = b"\x0a\x02\xff\xfe"  # field 1, a text of two bytes


@pytest.mark.parametrize("data", [NOT_UTF8, b"\x0a\x7fcut off"])
async def test_a_request_that_cannot_be_decoded_is_invalid_input(
    channel: grpc.aio.Channel, stub: Stub, data: bytes
) -> None:
    call = channel.unary_unary("/gen2act.v1.Policy/PrepareGoal")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(data, timeout=10)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert type(rpc.from_rpc_error(failure.value)) is errors.InvalidInput
    reply = await stub.PrepareGoal(pb.policy.PrepareGoalRequest(video_id="v"), timeout=10)
    assert reply.goal_id == "v"


async def test_a_message_of_a_stream_that_cannot_be_decoded_is_invalid_input(
    channel: grpc.aio.Channel, servicer: object
) -> None:
    call = channel.stream_stream("/gen2act.v1.Policy/Rollout")(
        iter([open_rollout("first").SerializeToString(), b"\x0a\x04\x0a\x02\xff\xfe"]), timeout=10
    )

    assert b"first" in await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await eventually(servicer.cleaned_up.is_set)  # type: ignore[attr-defined]
