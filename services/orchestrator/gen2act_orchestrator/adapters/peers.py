"""The video and policy services, over gRPC."""

from __future__ import annotations

import grpc
import grpc.aio

from gen2act_contracts import CONTRACT_VERSION
from gen2act_contracts.errors import ContractMismatch, Internal, SpecMismatch
from gen2act_contracts.pb import policy, policy_grpc, videogen, videogen_grpc
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionSpec
from gen2act_orchestrator.domain.stage import Video
from gen2act_orchestrator.service.ports import OnProgress
from gen2act_orchestrator.service.values import Generation


class GrpcVideoGenerator:
    """`VideoGenerator` over `gen2act.v1.VideoGeneration`. Cancelling the call cancels the work."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = videogen_grpc.VideoGenerationStub(channel)

    async def generate(
        self, request: Generation, on_progress: OnProgress, *, deadline_s: float
    ) -> Video:
        message = videogen.GenerateRequest(
            task=request.task,
            scene=request.scene.frame,
            seed=request.seed,
            backend=request.backend,
            source_video_id=request.source_video_id,
            request_id=request.request_id,
        )
        result: videogen.GeneratedVideo | None = None
        call = self._stub.Generate(message, timeout=deadline_s)
        try:
            async for event in call:
                if event.WhichOneof("event") == "progress":
                    on_progress(event.progress.fraction, event.progress.phase)
                else:
                    result = event.result
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()  # when we were cancelled; else nothing is left to cancel
        if result is None:
            raise Internal("the video service ended its answer without a result")
        return Video(
            id=result.video_id,
            prompt=result.provenance.prompt,
            backend=result.provenance.backend,
            model=result.provenance.model,
            seed=result.provenance.seed,
            frames=result.frames,
            fps=result.fps,
            size=result.size,
            seconds=result.provenance.seconds,
            cached=result.cached,
        )


class GrpcPolicy:
    """`Policy` over `gen2act.v1.Policy`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = policy_grpc.PolicyStub(channel)

    async def spec(self, *, deadline_s: float) -> ActionSpec:
        request = policy.GetSpecRequest(contract_version=CONTRACT_VERSION)
        try:
            answer = await self._stub.GetSpec(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if answer.contract_version != CONTRACT_VERSION:
            raise ContractMismatch(
                f"the policy speaks contract version {answer.contract_version}, "
                f"this orchestrator {CONTRACT_VERSION}"
            )
        spec = ActionSpec.from_proto(answer.action_spec)
        if spec.hash != answer.spec_hash:
            raise SpecMismatch(
                f"the policy's action spec hashes to {spec.hash[:12]}, it says "
                f"{answer.spec_hash[:12]!r}"
            )
        return spec

    async def prepare_goal(self, video_id: str, *, deadline_s: float) -> str:
        request = policy.PrepareGoalRequest(video_id=video_id)
        try:
            answer = await self._stub.PrepareGoal(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer.goal_id
