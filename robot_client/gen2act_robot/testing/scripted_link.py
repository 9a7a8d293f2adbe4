"""A policy in the same process, whose replies come after so many virtual milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.spec import ActionChunk, ActionSpec
from gen2act_robot.policy_link import LinkListener, OutgoingObservation, PolicyReply
from gen2act_robot.testing.fake_clock import FakeClock

MARK_M = 1e-5  # [m] one unit of what the default chunks tell


@dataclass(frozen=True)
class ScriptedReply:
    """What the policy does with one observation."""

    chunk: ActionChunk | None = None  # None: a chunk that tells its observation, see `ScriptedLink`
    delay_ms: float = 15.0  # [ms] virtual
    terminate_probability: float = 0.0
    expires_ns: int = 0
    dropped: str = ""  # a reason: not answered, but dropped


Script = Callable[[OutgoingObservation], ScriptedReply | None]


class ScriptedLink:
    """A `PolicyLink` for the control loop on a `FakeClock`.

    Args:
        script: what to reply to an observation; None: never answered. Default: every observation
            is answered in 15 ms, action i of the reply to observation s having dx = s * MARK_M and
            dy = i * MARK_M, so that a test can see which action was executed.
    """

    def __init__(self, clock: FakeClock, spec: ActionSpec, script: Script | None = None) -> None:
        self._clock = clock
        self._spec = spec
        self._script = script or (lambda observation: ScriptedReply())
        self._listener: LinkListener | None = None
        self.sent: list[OutgoingObservation] = []
        self.closed = False

    async def open(self, listener: LinkListener) -> None:
        self._listener = listener

    def send(self, observation: OutgoingObservation) -> None:
        self.sent.append(observation)
        scripted = self._script(observation)
        if scripted is not None:
            self._clock.call_later(scripted.delay_ms, lambda: self._deliver(observation, scripted))

    def fail(self, error: Gen2ActError) -> None:
        """The session breaks for good."""
        if self._listener is not None:
            self._listener.on_failed(error)

    async def close(self) -> None:
        self.closed = True

    def chunk(self, sequence: int) -> ActionChunk:
        """The default chunk for an observation."""
        values = np.zeros((self._spec.chunk_length, len(self._spec.dimensions)), np.float32)
        values[:, 0] = sequence * MARK_M
        values[:, 1] = np.arange(self._spec.chunk_length) * MARK_M
        return ActionChunk(values, np.zeros(self._spec.chunk_length, np.float32))

    def _deliver(self, observation: OutgoingObservation, scripted: ScriptedReply) -> None:
        if self._listener is None or self.closed:
            return
        if scripted.dropped:
            self._listener.on_dropped(observation.sequence, scripted.dropped)
            return
        self._listener.on_reply(
            PolicyReply(
                sequence=observation.sequence,
                chunk=scripted.chunk or self.chunk(observation.sequence),
                terminate_probability=scripted.terminate_probability,
                expires_ns=scripted.expires_ns,
            )
        )
