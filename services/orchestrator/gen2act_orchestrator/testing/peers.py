"""The video and policy services without video and without policy."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from gen2act_contracts import CONTRACT_VERSION
from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.pb import policy, policy_grpc, videogen, videogen_grpc
from gen2act_contracts.rpc import abort
from gen2act_contracts.spec import ActionDimension, ActionSpec

SPEC = ActionSpec(
    dimensions=tuple(ActionDimension(name, "m", -0.05, 0.05) for name in ("dx", "dy", "dz")),
    frame="world",
    control_period_s=1 / 3,
    chunk_length=4,
    model_hash="0" * 64,
)


@dataclass
class FakeVideogen(videogen_grpc.VideoGenerationServicer):
    """Answers at once, unless told otherwise.

    Args:
        failures: raised by the next calls, one each.
        phases: told by every call.
        gate: calls wait until it is set.
    """

    failures: list[Gen2ActError] = field(default_factory=list)
    phases: tuple[str, ...] = ("rendering",)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[videogen.GenerateRequest] = field(default_factory=list)
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def Generate(
        self, request: videogen.GenerateRequest, context: Any
    ) -> AsyncIterator[videogen.GenerateEvent]:
        self.requests.append(request)
        if self.failures:
            await abort(context, self.failures.pop(0))
        for phase in self.phases:
            progress = videogen.GenerateProgress(fraction=0.5, phase=phase)
            yield videogen.GenerateEvent(progress=progress)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        name = f"{request.task}/{request.seed}/{request.backend}".encode()
        yield videogen.GenerateEvent(
            result=videogen.GeneratedVideo(
                video_id=hashlib.sha256(name).hexdigest(),
                frames=16,
                fps=8.0,
                size=224,
                provenance=videogen.Provenance(
                    prompt=f"A person doing: {request.task}, static camera",
                    seed=request.seed,
                    backend=request.backend or "fake",
                    model="fake",
                    seconds=0.25,
                ),
            )
        )


@dataclass
class FakePolicy(policy_grpc.PolicyServicer):
    """Tells a spec and prepares goals; rollouts are the fake robot's own affair.

    Args:
        spec: of its model.
        failures: raised by the next PrepareGoal calls, one each.
    """

    spec: ActionSpec = SPEC
    contract_version: int = CONTRACT_VERSION
    failures: list[Gen2ActError] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)

    async def GetSpec(self, request: policy.GetSpecRequest, context: Any) -> policy.PolicySpec:
        return policy.PolicySpec(
            contract_version=self.contract_version,
            action_spec=self.spec.to_proto(),
            spec_hash=self.spec.hash,
            model_name="fake",
        )

    async def PrepareGoal(
        self, request: policy.PrepareGoalRequest, context: Any
    ) -> policy.PrepareGoalResponse:
        if self.failures:
            await abort(context, self.failures.pop(0))
        self.prepared.append(request.video_id)
        return policy.PrepareGoalResponse(goal_id=f"goal-{request.video_id[:8]}")


@asynccontextmanager
async def serving(
    servicer: FakeVideogen | FakePolicy, port: int = 0
) -> AsyncIterator[tuple[str, int]]:
    """The fake behind real gRPC until the block ends; gives its address and port."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    if isinstance(servicer, FakeVideogen):
        videogen_grpc.add_VideoGenerationServicer_to_server(servicer, server)
    else:
        policy_grpc.add_PolicyServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", port
    finally:
        await server.stop(None)
