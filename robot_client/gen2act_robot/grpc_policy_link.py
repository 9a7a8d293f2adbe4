"""The rollout stream over gRPC: reconnects, replays the last frames, sends the newest again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TypeAlias

import grpc
import grpc.aio

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_contracts.errors import (
    DeadlineExceeded,
    Gen2ActError,
    Internal,
    PeerUnavailable,
    SpecMismatch,
)
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionChunk, ActionSpec
from gen2act_robot.policy_link import LinkListener, OutgoingObservation, PolicyReply
from gen2act_robot.transport import Backoff, open_channel

_log = logging.getLogger(__name__)

_Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.policy.RolloutRequest, pb.policy.RolloutReply]"


class GrpcPolicyLink:
    """One rollout session with a policy replica, or with several in turn.

    It reconnects until it is closed: how long the robot may hold meanwhile is the control loop's
    decision.

    Args:
        address: policy, host:port.
        session_id: names the rollout; the same after a reconnect.
        open_timeout_s: [s] bound on `open`, and on the handshake of each later attempt.
    """

    def __init__(
        self,
        address: str,
        *,
        session_id: str,
        goal_id: str,
        spec: ActionSpec,
        spec_hash: str,
        open_timeout_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._address = address
        self._model_hash = spec.model_hash
        self._open = pb.policy.OpenRollout(
            session_id=session_id,
            goal_id=goal_id,
            contract_version=CONTRACT_VERSION,
            spec_hash=spec_hash,
        )
        self._open_timeout_s = open_timeout_s
        self._backoff = backoff or Backoff(initial_s=0.1, maximum_s=1.0)
        self._history: deque[OutgoingObservation] = deque(maxlen=spec.history_length)
        self._pending: deque[OutgoingObservation] = deque(maxlen=spec.history_length)
        self._more = asyncio.Event()  # something is pending
        self._answered = 0  # highest sequence with a reply
        self._listener: LinkListener | None = None
        self._task: asyncio.Task[None] | None = None
        self._last_error: Gen2ActError | None = None
        self.attempts = 0  # to connect
        self.connections = 0  # of which the handshake succeeded

    async def open(self, listener: LinkListener) -> None:
        """Connects, and keeps connected until `close`.

        Raises:
            Gen2ActError: the policy refused (spec, contract, goal, ...), or, PeerUnavailable,
                could not be reached within the timeout.
        """
        self._listener = listener
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_connected(opened))
        try:
            async with asyncio.timeout(self._open_timeout_s):
                await asyncio.shield(opened)
        except TimeoutError:
            await self.close()
            raise PeerUnavailable(
                f"policy at {self._address} did not open the rollout within "
                f"{self._open_timeout_s:g} s"
                + (f": {self._last_error}" if self._last_error else "")
            ) from self._last_error
        except BaseException:  # also when the caller is cancelled: leave no task behind
            await self.close()
            raise

    def send(self, observation: OutgoingObservation) -> None:
        self._history.append(observation)
        self._pending.append(observation)
        self._more.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep_connected(self, opened: asyncio.Future[None]) -> None:
        while True:
            try:
                await self._session(opened)
            except Gen2ActError as error:
                self._last_error = error
            except Exception as error:  # a bug here must not look like silence
                _log.exception("policy link")
                self._last_error = Internal(f"policy link: {error!r}")
            assert self._last_error is not None
            # A defect in one replica (Internal) is tried again too: the loop bounds it all.
            if not self._last_error.retryable and not isinstance(self._last_error, Internal):
                if not opened.done():
                    opened.set_exception(self._last_error)
                elif self._listener is not None:
                    self._listener.on_failed(self._last_error)
                return
            pause_s = self._backoff.next_s()
            _log.warning(
                "policy at %s: %s; again in %.1f s", self._address, self._last_error, pause_s
            )
            await asyncio.sleep(pause_s)

    async def _session(self, opened: asyncio.Future[None]) -> None:
        """One connection, from handshake to break; always ends in a Gen2ActError."""
        self.attempts += 1
        async with open_channel(self._address) as channel:
            call = pb.policy_grpc.PolicyStub(channel).Rollout()
            try:
                try:
                    async with asyncio.timeout(self._open_timeout_s):
                        await self._handshake(call)
                except TimeoutError:
                    raise DeadlineExceeded("policy did not answer the handshake") from None
                self.connections += 1
                self._backoff.reset()
                if not opened.done():
                    opened.set_result(None)
                writer = asyncio.create_task(self._write(call))
                try:
                    await self._read(call)
                finally:
                    writer.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await writer
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            finally:
                call.cancel()

    async def _handshake(self, call: _Call) -> None:
        await call.write(pb.policy.RolloutRequest(open=self._open))
        reply = await call.read()
        if not isinstance(reply, pb.policy.RolloutReply):  # EOF
            raise PeerUnavailable("policy closed the stream before opening the rollout")
        if reply.WhichOneof("message") != "opened":
            raise Internal("policy answered the opening with something else")
        if self._model_hash and reply.opened.model_hash != self._model_hash:
            raise SpecMismatch(
                f"policy runs model {reply.opened.model_hash[:12]}, "
                f"the rollout is for {self._model_hash[:12]}"
            )
        # What was pending is in the history too. The newest frame, if unanswered, is not context
        # but a question still: it goes again as a live observation.
        self._pending.clear()
        history = tuple(self._history)  # frames captured from here on go by `_write`
        for observation in history:
            newest = observation is history[-1]
            live = newest and observation.sequence > self._answered
            await call.write(_request(observation, replayed=not live))

    async def _write(self, call: _Call) -> None:
        try:
            while True:
                while self._pending:
                    await call.write(_request(self._pending.popleft(), replayed=False))
                self._more.clear()
                await self._more.wait()
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # the stream broke; the reader has the reason

    async def _read(self, call: _Call) -> None:
        listener = self._listener
        assert listener is not None
        while True:
            message = await call.read()
            if not isinstance(message, pb.policy.RolloutReply):  # EOF
                raise PeerUnavailable("policy closed the rollout stream")
            kind = message.WhichOneof("message")
            if kind == "action":
                reply = message.action
                self._answered = max(self._answered, reply.sequence)
                listener.on_reply(
                    PolicyReply(
                        sequence=reply.sequence,
                        chunk=ActionChunk.from_proto(reply.chunk),
                        terminate_probability=reply.terminate_probability,
                        expires_ns=reply.expires_monotonic_ns,
                    )
                )
            elif kind == "dropped":
                self._answered = max(self._answered, message.dropped.sequence)
                listener.on_dropped(message.dropped.sequence, message.dropped.reason)


def _request(observation: OutgoingObservation, *, replayed: bool) -> pb.policy.RolloutRequest:
    return pb.policy.RolloutRequest(
        observation=pb.policy.Observation(
            sequence=observation.sequence,
            capture_monotonic_ns=observation.capture_ns,
            budget_ms=observation.budget_ms,
            image=observation.image,
            proprioception=observation.proprioception,
            replayed=replayed,
        )
    )
