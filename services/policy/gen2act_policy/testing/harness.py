"""A policy served on a free port of this machine, and a robot's side of its stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from gen2act_contracts import CONTRACT_VERSION, frames, keys, pb, video
from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.frames import Frame
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.core import PolicyCore
from gen2act_policy.cost import CostTable
from gen2act_policy.edge import PolicyServicer
from gen2act_policy.goals import Store
from gen2act_policy.history import Pixels
from gen2act_policy.metrics import PolicyMetrics
from gen2act_policy.runtime import Runtime
from gen2act_policy.testing.fakes import WAIT_S, MemoryStore, free_costs
from gen2act_servicekit import GrpcService, grpc_client
from gen2act_servicekit.testing import eventually

RECORDED_S = 1000
"""[s] Capture time of observation 0 on the fake robot's clock; one second per sequence number."""


def video_store(**videos: bytes) -> MemoryStore:
    """A store with the given MP4s by id; without any, with a small video `v1`."""
    store = MemoryStore()
    if not videos:
        videos = {"v1": video.encode_mp4(np.zeros((16, 32, 32, 3), np.uint8), 10)}
    for name, mp4 in videos.items():
        store.values[keys.video_key(name)] = mp4
    return store


class RobotStream:
    """The robot's end of one `Rollout` stream. Every wait has a bound."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(
        self,
        sequence: int,
        pixels: Pixels,
        *,
        proprioception: Sequence[float] | None = None,
        budget_ms: float = 1000 * WAIT_S,
        replayed: bool = False,
    ) -> None:
        """An observation with a raw image; `proprioception` is x, y, z [m] and opening."""
        await self.send_image(
            sequence,
            frames.encode_raw(Frame(pixels)),
            proprioception=proprioception,
            budget_ms=budget_ms,
            replayed=replayed,
        )

    async def send_image(
        self,
        sequence: int,
        image: pb.common.Image,
        *,
        proprioception: Sequence[float] | None = None,
        budget_ms: float = 1000 * WAIT_S,
        replayed: bool = False,
    ) -> None:
        observation = pb.policy.Observation(
            sequence=sequence,
            capture_monotonic_ns=(RECORDED_S + sequence) * 10**9,
            budget_ms=budget_ms,
            image=image,
            replayed=replayed,
        )
        if proprioception is not None:
            observation.proprioception.ee_position_m.extend(proprioception[:-1])
            observation.proprioception.gripper_opening = proprioception[-1]
        await self.write(pb.policy.RolloutRequest(observation=observation))

    async def write(self, request: pb.policy.RolloutRequest) -> None:
        await asyncio.wait_for(self.call.write(request), WAIT_S)

    async def reply(self) -> pb.policy.RolloutReply | None:
        """The next reply, None at the end. Raises the typed error the stream ended with."""
        try:
            reply = await asyncio.wait_for(self.call.read(), WAIT_S)
            if reply is grpc.aio.EOF:
                code = await self.call.code()
                if code != grpc.StatusCode.OK:
                    raise grpc.aio.AioRpcError(
                        code,
                        await self.call.initial_metadata(),
                        await self.call.trailing_metadata(),
                        await self.call.details(),
                    )
                return None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        assert isinstance(reply, pb.policy.RolloutReply)
        return reply

    async def action(self, sequence: int) -> pb.policy.ActionReply:
        """The next reply, which must be the action for this observation."""
        reply = await self.reply()
        assert reply is not None, "the stream ended"
        assert reply.WhichOneof("message") == "action", reply
        assert reply.action.sequence == sequence
        return reply.action

    async def dropped(self, sequence: int) -> str:
        """The reason in the next reply, which must be that this observation was dropped."""
        reply = await self.reply()
        assert reply is not None, "the stream ended"
        assert reply.WhichOneof("message") == "dropped", reply
        assert reply.dropped.sequence == sequence
        return reply.dropped.reason

    async def error(self) -> Gen2ActError:
        """The error the stream ends with, after whatever replies come before it."""
        try:
            while await self.reply() is not None:
                pass
        except Gen2ActError as error:
            return error
        raise AssertionError("the stream ended without an error")

    async def end(self) -> None:
        """Says that no more observations come."""
        await self.call.done_writing()

    def cancel(self) -> None:
        self.call.cancel()


class ServedPolicy:
    """A policy that is being served."""

    def __init__(
        self,
        core: PolicyCore,
        runtime: Runtime,
        store: Store,
        registry: CollectorRegistry,
        channel: grpc.aio.Channel,
    ) -> None:
        self.core = core
        self.runtime = runtime
        self.store = store
        self.registry = registry
        self.channel = channel
        self.stub = pb.policy_grpc.PolicyStub(channel)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"gen2act_policy_{name}", labels) or 0.0

    async def spec(self) -> pb.policy.PolicySpec:
        request = pb.policy.GetSpecRequest(contract_version=CONTRACT_VERSION)
        return await self.stub.GetSpec(request, timeout=WAIT_S)

    async def prepare(self, video_id: str) -> pb.policy.PrepareGoalResponse:
        """Raises the typed error."""
        try:
            request = pb.policy.PrepareGoalRequest(video_id=video_id)
            return await self.stub.PrepareGoal(request, timeout=WAIT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def open(self, video_id: str = "v1", **changes: Any) -> RobotStream:
        """An open rollout that follows the video. Raises the typed error."""
        if "goal_id" not in changes:
            changes["goal_id"] = (await self.prepare(video_id)).goal_id
        opening: dict[str, Any] = {
            "session_id": "robot-1",
            "contract_version": CONTRACT_VERSION,
            "spec_hash": self.core.spec_hash,
        } | changes
        stream = RobotStream(self.stub.Rollout(timeout=4 * WAIT_S))
        request = pb.policy.OpenRollout(**opening)
        await stream.write(pb.policy.RolloutRequest(open=request))
        reply = await stream.reply()
        assert reply is not None
        assert reply.opened.session_id == opening["session_id"]
        assert reply.opened.model_hash == self.core.spec.model_hash
        return stream

    async def until_waiting(self, count: int) -> None:
        """Returns when that many rollouts wait for the inference thread."""
        await eventually(
            lambda: self.core.waiting() == count,
            deadline_s=WAIT_S,
            what=f"{count} rollouts waiting",
        )


@asynccontextmanager
async def serving(
    runtime: Runtime,
    spec: ActionSpec,
    store: Store,
    *,
    encode_cost: CostTable | None = None,
    step_cost: CostTable | None = None,
    max_rollouts: int = 256,
    idle_timeout_s: float = 120.0,
) -> AsyncIterator[ServedPolicy]:
    """Serves a policy until the block ends."""
    registry = CollectorRegistry()
    with ThreadPoolExecutor(1) as decoder, ThreadPoolExecutor(1) as videos:
        core = PolicyCore(
            runtime,
            spec,
            store,
            PolicyMetrics(registry),
            model_name="test",
            goal_samples=16,
            encode_cost=encode_cost or free_costs(),
            step_cost=step_cost or free_costs(),
            decoder=decoder,
            videos=videos,
            max_rollouts=max_rollouts,
        )
        service = GrpcService("policy", drain_s=1.0)
        service.add(
            pb.policy_grpc.add_PolicyServicer_to_server,
            PolicyServicer(core, idle_timeout_s=idle_timeout_s),
            pb.policy.DESCRIPTOR.services_by_name["Policy"],
        )
        core.start()
        await service.start()
        try:
            async with grpc_client.channel(service.address) as channel:
                yield ServedPolicy(core, runtime, store, registry, channel)
        finally:
            gate = getattr(runtime, "gate", None)
            if gate is not None:
                gate.release()
            core.drain()
            await service.stop()
            core.stop()
