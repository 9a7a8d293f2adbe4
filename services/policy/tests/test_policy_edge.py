"""Over gRPC, with a fake runtime: handshakes, bad input, overload, drain, a free event loop."""

import asyncio
import math
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
import pytest

from gen2act_contracts import CONTRACT_VERSION, frames, pb
from gen2act_contracts.errors import (
    ContractMismatch,
    DeadlineExceeded,
    Draining,
    Gen2ActError,
    GoalExpired,
    Internal,
    InvalidImage,
    InvalidInput,
    NonFiniteInput,
    Overloaded,
    SpecMismatch,
    StoreUnavailable,
    VideoExpired,
)
from gen2act_contracts.frames import Frame
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.testing import FakeRuntime, MemoryStore, small_spec
from gen2act_policy.testing.harness import (
    RECORDED_S,
    RobotStream,
    ServedPolicy,
    serving,
    video_store,
)
from gen2act_servicekit.testing import eventually

Serve = Callable[..., Awaitable[ServedPolicy]]
GREY = np.full((32, 32, 3), 100, np.uint8)
STILL = [0.1, 0.2, 0.3, 1.0]


def fake(policy: ServedPolicy) -> FakeRuntime:
    assert isinstance(policy.runtime, FakeRuntime)
    return policy.runtime


async def occupied(policy: ServedPolicy) -> RobotStream:
    """A robot whose step is held at the model until `gate.release`."""
    robot = await policy.open("v1")
    fake(policy).gate.hold()
    await robot.send(0, GREY)
    await asyncio.to_thread(fake(policy).gate.wait_until_held)
    return robot


async def test_the_spec_is_told_with_its_hash(policy: ServedPolicy, spec: ActionSpec) -> None:
    told = await policy.spec()
    assert told.contract_version == CONTRACT_VERSION
    assert ActionSpec.from_proto(told.action_spec) == spec
    assert told.spec_hash == spec.hash
    assert told.provider == "FakeExecutionProvider"
    assert told.model_name == "test"


async def test_a_reply_carries_sequence_expiry_and_timing(
    policy: ServedPolicy, spec: ActionSpec
) -> None:
    rollout = await policy.open("v1")
    await rollout.send(7, GREY)
    reply = await rollout.action(7)
    horizon_ns = round(spec.chunk_length * spec.control_period_s * 1e9)
    assert reply.expires_monotonic_ns == (RECORDED_S + 7) * 10**9 + horizon_ns
    assert (reply.chunk.steps, reply.chunk.dims) == (4, 3)
    timing = reply.timing
    assert timing.batch == 1
    assert timing.total_ms > 0
    parts = timing.queue_ms + timing.decode_ms + timing.encode_ms + timing.step_ms
    assert parts == pytest.approx(timing.total_ms, rel=1e-6)
    assert min(timing.decode_ms, timing.encode_ms, timing.step_ms) > 0


async def test_a_stream_ends_when_the_robot_ends_it_and_all_is_answered(
    policy: ServedPolicy,
) -> None:
    rollout = await policy.open("v1")
    await rollout.send(1, GREY)
    await rollout.end()
    await rollout.action(1)
    assert await rollout.reply() is None


# ---- handshake ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, CONTRACT_VERSION + 1])
async def test_another_contract_version_is_refused(policy: ServedPolicy, version: int) -> None:
    with pytest.raises(ContractMismatch, match=str(version)):
        await policy.open("v1", contract_version=version)
    error = await status(policy.stub.GetSpec(pb.policy.GetSpecRequest(contract_version=version)))
    assert isinstance(error, ContractMismatch)


async def test_another_spec_hash_is_refused(policy: ServedPolicy) -> None:
    with pytest.raises(SpecMismatch, match="GetSpec"):
        await policy.open("v1", spec_hash="0" * 64)


async def test_a_goal_of_another_model_is_refused(policy: ServedPolicy) -> None:
    with pytest.raises(GoalExpired):
        await policy.open("v1", goal_id="v1@" + "0" * 64)


@pytest.mark.parametrize("goal_id", ["", "junk", "a b@" + "f" * 64])
async def test_what_is_not_a_goal_id_is_refused(policy: ServedPolicy, goal_id: str) -> None:
    with pytest.raises(InvalidInput):
        await policy.open("v1", goal_id=goal_id)


@pytest.mark.parametrize("session_id", ["", "a\nb", "x" * 257])
async def test_a_bad_session_id_is_refused(policy: ServedPolicy, session_id: str) -> None:
    with pytest.raises(InvalidInput, match="session_id"):
        await policy.open("v1", session_id=session_id)


async def test_an_observation_before_open_is_refused(policy: ServedPolicy) -> None:
    stream = RobotStream(policy.stub.Rollout())
    await stream.send(1, GREY)
    assert isinstance(await stream.error(), InvalidInput)


async def test_a_second_open_is_refused(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.write(pb.policy.RolloutRequest(open=pb.policy.OpenRollout(session_id="x")))
    assert isinstance(await rollout.error(), InvalidInput)


async def test_a_stream_without_a_message_is_refused(policy: ServedPolicy) -> None:
    stream = RobotStream(policy.stub.Rollout())
    await stream.end()
    assert isinstance(await stream.error(), InvalidInput)


# ---- goals -------------------------------------------------------------------------------------


async def test_a_goal_is_prepared_once(policy: ServedPolicy) -> None:
    first = await policy.prepare("v1")
    second = await policy.prepare("v1")
    assert first.goal_id == second.goal_id
    assert (first.cached, second.cached) == (False, True)
    assert first.seconds > 0
    assert sum(fake(policy).encoded) == 16
    assert policy.metric("goals_total", cached="true") == 1


async def test_an_expired_video_is_said_so(policy: ServedPolicy) -> None:
    with pytest.raises(VideoExpired, match="gone"):
        await policy.prepare("gone")
    assert (await policy.prepare("v1")).goal_id


async def test_a_video_that_expires_after_preparing_is_said_so_by_another_replica(
    serve: Serve,
) -> None:
    store = video_store()
    goal_id = (await (await serve(store=store)).prepare("v1")).goal_id
    store.values.clear()
    with pytest.raises(VideoExpired):
        await (await serve(store=store)).open(goal_id=goal_id)


async def test_another_replica_rebuilds_the_goal_from_its_id(serve: Serve) -> None:
    store = video_store()
    goal_id = (await (await serve(store=store)).prepare("v1")).goal_id
    other = await serve(store=store)
    rollout = await other.open(goal_id=goal_id)
    await rollout.send(1, GREY)
    await rollout.action(1)


async def test_without_its_store_running_rollouts_go_on_and_new_goals_are_refused(
    policy: ServedPolicy,
) -> None:
    rollout = await policy.open("v1")
    assert isinstance(policy.store, MemoryStore)
    policy.store.down = True
    await rollout.send(1, GREY)
    await rollout.action(1)
    with pytest.raises(StoreUnavailable):
        await policy.prepare("v2")
    policy.store.down = False
    with pytest.raises(VideoExpired):
        await policy.prepare("v2")


# ---- observations ------------------------------------------------------------------------------


def jpeg() -> pb.common.Image:
    return frames.encode_jpeg(Frame(GREY))


def changed(image: pb.common.Image, **fields: object) -> pb.common.Image:
    made = pb.common.Image()
    made.CopyFrom(image)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


BAD_IMAGES = {
    "none": pb.common.Image(),
    "truncated": changed(jpeg(), data=jpeg().data[:200]),
    "not a jpeg": changed(jpeg(), data=b"\x00" * 500),
    "bomb": changed(
        frames.encode_jpeg(Frame(np.zeros((2048, 2048, 3), np.uint8))), width=32, height=32
    ),
    "not square": changed(frames.encode_raw(Frame(GREY)), width=64, height=16),
    "1x1": pb.common.Image(
        encoding=pb.common.IMAGE_ENCODING_RAW_RGB8, width=1, height=1, data=b"abc"
    ),
    "unknown encoding": changed(jpeg(), encoding=9),
}


@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
async def test_a_bad_image_ends_its_rollout_and_no_other(
    policy: ServedPolicy, image: pb.common.Image
) -> None:
    good, bad = await policy.open("v1"), await policy.open("v1")
    await bad.send_image(1, image)
    assert isinstance(await bad.error(), InvalidImage)
    await good.send(1, GREY)
    await good.action(1)


async def test_a_jpeg_and_a_raw_image_are_both_understood(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.send_image(1, jpeg())
    from_jpeg = await rollout.action(1)
    await rollout.send(2, GREY)
    from_raw = await rollout.action(2)
    np.testing.assert_allclose(from_jpeg.chunk.values, from_raw.chunk.values, atol=0.001)


async def test_a_square_image_of_another_size_is_resized(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.send(1, np.full((48, 48, 3), 100, np.uint8))
    larger = await rollout.action(1)
    await rollout.send(2, GREY)
    assert larger.chunk.values == (await rollout.action(2)).chunk.values


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("index", [0, 3], ids=["position", "gripper"])
async def test_non_finite_proprioception_is_refused(
    policy: ServedPolicy, value: float, index: int
) -> None:
    rollout = await policy.open("v1")
    measured = list(STILL)
    measured[index] = value
    await rollout.send(1, GREY, proprioception=measured)
    error = await rollout.error()
    assert isinstance(error, NonFiniteInput)
    assert error.metadata["sequence"] == "1"
    again = await policy.open("v1")
    await again.send(1, GREY, proprioception=STILL)
    await again.action(1)


async def test_missing_proprioception_is_refused_where_the_model_needs_it(serve: Serve) -> None:
    policy = await serve(spec=small_spec(uses_proprioception=True))
    rollout = await policy.open("v1")
    await rollout.send(1, GREY, proprioception=STILL)
    await rollout.action(1)
    await rollout.send(2, GREY)
    error = await rollout.error()
    assert error.code == "INVALID_INPUT"
    assert "proprioception" in str(error)


async def test_a_position_that_is_not_three_numbers_is_refused(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.send(1, GREY, proprioception=[0.1, 0.2, 1.0])
    assert (await rollout.error()).code == "INVALID_INPUT"


async def test_a_budget_that_is_not_a_number_is_refused(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.send(1, GREY, budget_ms=math.nan)
    assert isinstance(await rollout.error(), NonFiniteInput)


async def test_sequence_numbers_must_increase(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.send(5, GREY)
    await rollout.action(5)
    await rollout.send(5, GREY)
    assert "must increase" in str(await rollout.error())


async def test_a_replayed_frame_after_a_live_one_is_refused(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    await rollout.send(1, GREY)
    await rollout.send(2, GREY, replayed=True)
    assert "replayed" in str(await rollout.error())


async def test_an_expired_observation_is_dropped_and_the_stream_goes_on(
    policy: ServedPolicy,
) -> None:
    rollout = await policy.open("v1")
    steps = len(fake(policy).steps)
    await rollout.send(1, GREY, budget_ms=0)
    assert await rollout.dropped(1) == "EXPIRED"
    assert len(fake(policy).steps) == steps
    await rollout.send(2, GREY)
    await rollout.action(2)
    assert policy.metric("observations_dropped_total", reason="EXPIRED") == 1


async def test_a_newer_observation_supersedes_one_that_waits(policy: ServedPolicy) -> None:
    busy = await occupied(policy)
    rollout = await policy.open("v1")
    await rollout.send(1, GREY)
    await rollout.send(2, GREY)
    assert await rollout.dropped(1) == "SUPERSEDED"
    fake(policy).gate.release()
    await rollout.action(2)
    await busy.action(0)
    assert policy.metric("observations_dropped_total", reason="SUPERSEDED") == 1


# ---- the house stays up ------------------------------------------------------------------------


async def test_the_event_loop_answers_while_inference_is_slow(policy: ServedPolicy) -> None:
    busy = await occupied(policy)
    # Served by the same event loop, all while the step is held.
    assert (await policy.spec()).model_name == "test"
    assert (await policy.prepare("v1")).cached
    other = await policy.open("v1")
    await other.send(1, GREY)
    await policy.until_waiting(1)
    fake(policy).gate.release()
    await busy.action(0)
    await other.action(1)


async def test_more_rollouts_than_allowed_are_refused_until_one_ends(serve: Serve) -> None:
    policy = await serve(max_rollouts=2)
    first, second = await policy.open("v1"), await policy.open("v1")
    with pytest.raises(Overloaded, match="2 rollouts"):
        await policy.open("v1")
    await first.end()
    assert await first.reply() is None
    third = await policy.open("v1")
    for rollout in (second, third):
        await rollout.send(1, GREY)
        await rollout.action(1)


async def test_a_robot_that_goes_away_frees_its_place(serve: Serve) -> None:
    policy = await serve(max_rollouts=1)
    rollout = await policy.open("v1")
    assert policy.metric("rollouts") == 1
    rollout.cancel()
    await eventually(lambda: policy.metric("rollouts") == 0)
    await policy.open("v1")


async def test_a_failing_model_ends_the_rollout_and_not_the_service(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    fake(policy).fail = RuntimeError("secret detail")
    await rollout.send(1, GREY)
    error = await rollout.error()
    assert isinstance(error, Internal)
    assert "secret" not in str(error)
    fake(policy).fail = None
    again = await policy.open("v1")
    await again.send(1, GREY)
    await again.action(1)


async def test_an_idle_rollout_is_ended(spec: ActionSpec) -> None:
    async with serving(FakeRuntime(spec), spec, video_store(), idle_timeout_s=0.05) as policy:
        rollout = await policy.open("v1")
        assert isinstance(await rollout.error(), DeadlineExceeded)


async def test_draining_ends_rollouts_so_that_robots_go_elsewhere(policy: ServedPolicy) -> None:
    rollout = await policy.open("v1")
    policy.core.drain()
    error = await rollout.error()
    assert isinstance(error, Draining)
    assert error.retryable
    with pytest.raises(Draining):
        await policy.open("v1")


async def test_each_observation_of_a_flood_is_answered_once(policy: ServedPolicy) -> None:
    busy = await occupied(policy)
    rollout = await policy.open("v1")
    flood = 200
    for sequence in range(1, flood + 1):
        await rollout.send(sequence, GREY)
    fake(policy).gate.release()
    replies = [await rollout.reply() for _ in range(flood)]
    seen = [
        reply.dropped.sequence or reply.action.sequence for reply in replies if reply is not None
    ]
    assert sorted(seen) == list(range(1, flood + 1))
    await busy.action(0)


async def status(call: Awaitable[object]) -> Gen2ActError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)
