"""What the control loop asks of its connection to the policy, free of transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gen2act_contracts import pb
from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.spec import ActionChunk


@dataclass(frozen=True)
class OutgoingObservation:
    """One frame on its way to the policy."""

    sequence: int  # strictly increasing within a session, also across reconnects
    capture_ns: int  # [ns] robot's monotonic clock
    budget_ms: float  # [ms] a reply later than this is of no use
    image: pb.common.Image
    proprioception: pb.common.Proprioception | None


@dataclass(frozen=True)
class PolicyReply:
    sequence: int  # of the observation it answers
    chunk: ActionChunk
    terminate_probability: float  # 0 to 1
    expires_ns: int  # [ns] robot's monotonic clock; 0 if the policy named none


class LinkListener(Protocol):
    """Called on the event loop, in the order of arrival."""

    def on_reply(self, reply: PolicyReply) -> None: ...

    def on_dropped(self, sequence: int, reason: str) -> None: ...

    def on_failed(self, error: Gen2ActError) -> None:
        """The session cannot go on; the link will not reconnect."""


class PolicyLink(Protocol):
    """One rollout's stream. Breaks in the connection are its own business: it reconnects, replays
    its last frames and sends the newest again; the loop only notices that replies are late."""

    async def open(self, listener: LinkListener) -> None:
        """Returns when the policy has accepted the rollout; raises Gen2ActError if it does not."""

    def send(self, observation: OutgoingObservation) -> None:
        """Never waits. While the connection is down, the frame is kept for the replay."""

    async def close(self) -> None: ...
