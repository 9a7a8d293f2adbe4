"""gRPC edge: converts messages, calls the core, converts back."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from gen2act_contracts import CONTRACT_VERSION, frames, pb
from gen2act_contracts.errors import (
    DeadlineExceeded,
    Gen2ActError,
    Internal,
    InvalidInput,
    Unavailable,
)
from gen2act_policy.core import PolicyCore
from gen2act_policy.history import Pixels
from gen2act_policy.outcomes import Acted, Dropped, Observation, Outcome, Timing
from gen2act_policy.session import Session
from gen2act_servicekit import logs

log = logs.get(__name__)

OPEN_TIMEOUT_S = 10.0


class PolicyServicer(pb.policy_grpc.PolicyServicer):
    """`gen2act.v1.Policy`. Typed errors become statuses in servicekit's interceptor."""

    def __init__(self, core: PolicyCore | None = None, *, idle_timeout_s: float = 120.0) -> None:
        self._loaded = core
        self._idle_timeout_s = idle_timeout_s

    def serve(self, core: PolicyCore) -> None:
        """From now on answers with this core; before, everything is `Unavailable`."""
        self._loaded = core

    @property
    def _core(self) -> PolicyCore:
        if self._loaded is None:
            raise Unavailable("the model is still being loaded")
        return self._loaded

    async def GetSpec(
        self, request: pb.policy.GetSpecRequest, context: Any
    ) -> pb.policy.PolicySpec:
        self._core.check_contract(request.contract_version)
        return pb.policy.PolicySpec(
            contract_version=CONTRACT_VERSION,
            action_spec=self._core.spec.to_proto(),
            spec_hash=self._core.spec_hash,
            model_name=self._core.model_name,
            provider=self._core.provider,
        )

    async def PrepareGoal(
        self, request: pb.policy.PrepareGoalRequest, context: Any
    ) -> pb.policy.PrepareGoalResponse:
        started = time.monotonic()
        goal_id, cached = await self._core.prepare_goal(request.video_id)
        seconds = time.monotonic() - started
        log.info("goal_prepared", video_id=request.video_id, cached=cached, seconds=seconds)
        return pb.policy.PrepareGoalResponse(goal_id=goal_id, cached=cached, seconds=seconds)

    async def Rollout(
        self, request_iterator: AsyncIterator[pb.policy.RolloutRequest], context: Any
    ) -> AsyncIterator[pb.policy.RolloutReply]:
        session = await self._open(request_iterator)
        reader = asyncio.create_task(self._read(request_iterator, session))
        try:
            yield pb.policy.RolloutReply(
                opened=pb.policy.RolloutOpened(
                    session_id=session.session_id, model_hash=self._core.spec.model_hash
                )
            )
            while (outcome := await session.next_outcome()) is not None:
                yield self._reply(outcome)
                self._core.record(outcome)  # after the reply: nobody waits for it
        finally:
            reader.cancel()
            session.close()
            log.info("rollout_closed")

    async def _open(self, requests: AsyncIterator[pb.policy.RolloutRequest]) -> Session:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                first = await anext(requests, None)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no `open` message within {OPEN_TIMEOUT_S:g} s of the stream's start"
            ) from None
        if first is None or first.WhichOneof("message") != "open":
            raise InvalidInput("the first message of a rollout must be `open`")
        opening = first.open
        logs.bind(session_id=opening.session_id[:80])
        session = await self._core.open_rollout(
            opening.session_id, opening.goal_id, opening.contract_version, opening.spec_hash
        )
        log.info("rollout_opened", goal_id=opening.goal_id)
        return session

    async def _read(
        self, requests: AsyncIterator[pb.policy.RolloutRequest], session: Session
    ) -> None:
        """Feeds the session until the robot ends the stream, is idle or sends something bad."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._idle_timeout_s) as idle:
                async for request in requests:
                    idle.reschedule(loop.time() + self._idle_timeout_s)
                    if request.WhichOneof("message") != "observation":
                        raise InvalidInput("after `open` only observations may follow")
                    session.observe(self._observation(request.observation))
                    await session.room()
                    if session.closed:
                        return
            session.end_input()
        except TimeoutError:
            session.fail(
                DeadlineExceeded(f"no observation for {self._idle_timeout_s:g} s; open again")
            )
        except Gen2ActError as error:
            session.fail(error)
        except Exception as error:  # in a task of its own nobody else would see it
            log.exception("rollout_reader_failed")
            session.fail(Internal(f"reading the rollout failed: {type(error).__name__}"))

    def _observation(self, message: pb.policy.Observation) -> Observation:
        proprioception = message.proprioception if message.HasField("proprioception") else None
        image, size = message.image, self._core.spec.image_size
        return self._core.observation(
            sequence=message.sequence,
            capture_ns=message.capture_monotonic_ns,
            budget_ms=message.budget_ms,
            decode=lambda: decode_image(image, size),
            ee_position_m=None if proprioception is None else proprioception.ee_position_m,
            gripper_opening=0.0 if proprioception is None else proprioception.gripper_opening,
            replayed=message.replayed,
        )

    def _reply(self, outcome: Outcome) -> pb.policy.RolloutReply:
        if isinstance(outcome, Acted):
            return pb.policy.RolloutReply(
                action=pb.policy.ActionReply(
                    sequence=outcome.observation.sequence,
                    chunk=outcome.chunk.to_proto(),
                    terminate_probability=outcome.terminate_probability,
                    expires_monotonic_ns=self._core.expires_ns(outcome.observation),
                    timing=_timing(outcome.timing),
                )
            )
        assert isinstance(outcome, Dropped)
        return pb.policy.RolloutReply(
            dropped=pb.policy.ObservationDropped(
                sequence=outcome.observation.sequence,
                reason=outcome.reason,
                timing=_timing(outcome.timing),
            )
        )


def decode_image(image: pb.common.Image, size: int) -> Pixels:
    """uint8[size, size, 3] of an image message; a square image of another size is resized.

    Raises `InvalidImage`.
    """
    frame = frames.decode(image)
    if frame.pixels.shape[0] != size:
        frame = frames.resize(frame, size)
    return frame.pixels


def _timing(timing: Timing) -> pb.policy.Timing:
    return pb.policy.Timing(
        queue_ms=timing.queue * 1e3,
        decode_ms=timing.decode * 1e3,
        encode_ms=timing.encode * 1e3,
        step_ms=timing.step * 1e3,
        total_ms=timing.total * 1e3,
        batch=timing.batch,
    )
