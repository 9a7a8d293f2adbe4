"""A policy service without a model: real gRPC, scripted answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeAlias

import grpc.aio
import numpy as np

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_contracts.errors import ContractMismatch, Gen2ActError, SpecMismatch
from gen2act_contracts.rpc import abort
from gen2act_contracts.spec import ActionChunk, ActionSpec

Answer = Callable[[pb.policy.Observation], "pb.policy.RolloutReply | None"]


def answer(
    observation: pb.policy.Observation,
    spec: ActionSpec,
    action: Sequence[float] = (0.01, 0.0, 0.0),
    *,
    gripper: float = 0.0,
    terminate: float = 0.0,
) -> pb.policy.RolloutReply:
    """A reply whose chunk is `action` [D] in every period."""
    values = np.tile(np.asarray(action, np.float32), (spec.chunk_length, 1))
    chunk = ActionChunk(values, np.full(spec.chunk_length, gripper, np.float32))
    return pb.policy.RolloutReply(
        action=pb.policy.ActionReply(
            sequence=observation.sequence, chunk=chunk.to_proto(), terminate_probability=terminate
        )
    )


_Requests: TypeAlias = AsyncIterator[pb.policy.RolloutRequest]
_Replies: TypeAlias = AsyncIterator[pb.policy.RolloutReply]
_Context: TypeAlias = "grpc.aio.ServicerContext[_Requests, _Replies]"


class FakePolicyServer:
    """Serves on a free port; everything received is kept per connection.

    Args:
        answers: reply to a live observation; None: no reply. Default: 1 cm along x.
        refuse: every rollout is refused with this error.
    """

    def __init__(
        self,
        spec: ActionSpec,
        answers: Answer | None = None,
        *,
        refuse: Gen2ActError | None = None,
    ) -> None:
        self.spec = spec
        self.answers: Answer = answers or (lambda observation: answer(observation, spec))
        self.refuse = refuse
        self.model_hash = spec.model_hash  # that it says it runs
        self.connections: list[list[pb.policy.RolloutRequest]] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def observations(self) -> list[pb.policy.Observation]:
        """All observations of all connections, replayed ones too."""
        return [
            request.observation
            for requests in self.connections
            for request in requests
            if request.WhichOneof("message") == "observation"
        ]

    async def start(self) -> None:
        """Serves; after a `stop`, on the same port again."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        pb.policy_grpc.add_PolicyServicer_to_server(_Servicer(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Breaks all streams, as a killed replica would."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def __aenter__(self) -> FakePolicyServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


class _Servicer(pb.policy_grpc.PolicyServicer):
    def __init__(self, fake: FakePolicyServer) -> None:
        self._fake = fake

    async def GetSpec(
        self,
        request: pb.policy.GetSpecRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.policy.PolicySpec:
        return pb.policy.PolicySpec(
            contract_version=CONTRACT_VERSION,
            action_spec=self._fake.spec.to_proto(),
            spec_hash=self._fake.spec.hash,
            model_name="fake",
            provider="none",
        )

    async def PrepareGoal(
        self,
        request: pb.policy.PrepareGoalRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.policy.PrepareGoalResponse:
        return pb.policy.PrepareGoalResponse(goal_id=f"goal-of-{request.video_id}")

    async def Rollout(
        self,
        request_iterator: _Requests,
        context: _Context,
    ) -> _Replies:
        received: list[pb.policy.RolloutRequest] = []
        self._fake.connections.append(received)
        async for request in request_iterator:
            received.append(request)
            if request.WhichOneof("message") == "open":
                await self._check(request.open, context)
                yield pb.policy.RolloutReply(
                    opened=pb.policy.RolloutOpened(
                        session_id=request.open.session_id,
                        model_hash=self._fake.model_hash,
                    )
                )
            elif not request.observation.replayed:
                reply = self._fake.answers(request.observation)
                if reply is not None:
                    yield reply

    async def _check(
        self,
        opening: pb.policy.OpenRollout,
        context: _Context,
    ) -> None:
        if self._fake.refuse is not None:
            await abort(context, self._fake.refuse)
        if opening.contract_version != CONTRACT_VERSION:
            await abort(context, ContractMismatch(f"version {opening.contract_version}"))
        if opening.spec_hash != self._fake.spec.hash:
            await abort(context, SpecMismatch(f"spec hash {opening.spec_hash[:12]!r}"))
