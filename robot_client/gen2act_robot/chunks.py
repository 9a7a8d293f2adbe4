"""The newest action chunk, and which of its actions a tick may use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.spec import ActionChunk


@dataclass(frozen=True)
class TimedChunk:
    """A chunk with the place in time that its observation gave it."""

    chunk: ActionChunk  # values float32[h, D], gripper float32[h]
    sequence: int  # of the observation it answers
    captured_at_tick: int  # its first action is for this tick
    expires_ns: int  # [ns] robot's monotonic clock
    terminate_probability: float = 0.0


@dataclass(frozen=True)
class PlannedAction:
    """One action of a chunk, chosen for a tick; not yet through the gate."""

    values: NDArray[np.float32]  # float32[D]
    gripper: float  # probability that the gripper is closed
    sequence: int
    index: int  # in the chunk; 0 is the action for the observation's own period


class ChunkBuffer:
    """Keeps the newest chunk. Chunks have one length, so an older one never outlasts it."""

    def __init__(self) -> None:
        self._newest: TimedChunk | None = None

    @property
    def newest(self) -> TimedChunk | None:
        return self._newest

    def offer(self, timed: TimedChunk, now_ns: int) -> bool:
        """Takes the chunk if it is newer than the one at hand and not expired; says whether."""
        if now_ns >= timed.expires_ns:
            return False
        if self._newest is not None and timed.captured_at_tick <= self._newest.captured_at_tick:
            return False
        self._newest = timed
        return True

    def clear(self) -> None:
        self._newest = None

    def action_for(self, tick: int, now_ns: int) -> PlannedAction | None:
        """The action for `tick`, or None when there is none left that is valid now.

        The index is the number of ticks since capture, so a late chunk loses its first actions
        and no action is ever chosen for two ticks.
        """
        timed = self._newest
        if timed is None or now_ns >= timed.expires_ns:
            return None
        index = tick - timed.captured_at_tick
        if not 0 <= index < len(timed.chunk.values):
            return None
        return PlannedAction(
            values=timed.chunk.values[index],
            gripper=float(timed.chunk.gripper[index]),
            sequence=timed.sequence,
            index=index,
        )
