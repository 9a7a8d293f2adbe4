"""A policy servicer whose every method does what its request's text says, and its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from gen2act_contracts import errors, pb

Context = grpc.aio.ServicerContext[Any, Any]


class EchoPolicy(pb.policy_grpc.PolicyServicer):
    """Rollout echoes session ids; the session "wait" waits for `release`."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.waiting = asyncio.Event()
        self.cleaned_up = asyncio.Event()

    async def GetSpec(
        self, request: pb.policy.GetSpecRequest, context: Context
    ) -> pb.policy.PolicySpec:
        return pb.policy.PolicySpec(contract_version=request.contract_version)

    async def PrepareGoal(
        self, request: pb.policy.PrepareGoalRequest, context: Context
    ) -> pb.policy.PrepareGoalResponse:
        match request.video_id:
            case "typed":
                raise errors.VideoExpired("video v is gone", video_id="v")
            case "defect":
                raise ZeroDivisionError("a secret path /home/x")
            case "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "own words")
            case "peer":
                async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
                    await pb.policy_grpc.PolicyStub(channel).GetSpec(
                        pb.policy.GetSpecRequest(), timeout=5
                    )
        return pb.policy.PrepareGoalResponse(goal_id=request.video_id)

    async def Rollout(
        self, request_iterator: AsyncIterator[pb.policy.RolloutRequest], context: Context
    ) -> AsyncIterator[pb.policy.RolloutReply]:
        try:
            async for request in request_iterator:
                session = request.open.session_id
                if session == "typed":
                    raise errors.GoalExpired("goal g is gone", goal_id="g")
                if session == "defect":
                    raise KeyError("a secret path /home/x")
                if session == "wait":
                    self.waiting.set()
                    await self.release.wait()
                yield pb.policy.RolloutReply(opened=pb.policy.RolloutOpened(session_id=session))
        finally:
            self.cleaned_up.set()


def open_rollout(session: str) -> pb.policy.RolloutRequest:
    return pb.policy.RolloutRequest(open=pb.policy.OpenRollout(session_id=session))
