"""One open rollout on the event loop: observations in, outcomes out, in order."""

import asyncio
from collections.abc import Callable

from gen2act_contracts.errors import Gen2ActError, InvalidInput
from gen2act_policy.outcomes import Failed, Observation, Outcome
from gen2act_policy.scheduler import Rollout, Scheduler

MAX_UNREAD = 16
"""Outcomes a slow reader may leave lying before no more of its observations are read."""


class Session:
    """A rollout with its queue of outcomes. Used from the event loop only."""

    def __init__(
        self,
        session_id: str,
        rollout: Rollout,
        scheduler: Scheduler,
        *,
        on_close: Callable[[], None],
    ) -> None:
        self.session_id = session_id
        self._rollout = rollout
        self._scheduler = scheduler
        self._on_close = on_close
        self._outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._last_sequence = -1
        self._live = False  # an observation that wants an action was seen
        self._unanswered = 0
        self._input_ended = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def observe(self, observation: Observation) -> None:
        """Takes the next observation; its answer comes out of `next_outcome`.

        Raises `InvalidInput` for a sequence number that does not increase, or for a replayed
        frame after a live one (the history would be out of order).
        """
        if observation.sequence <= self._last_sequence:
            raise InvalidInput(
                f"sequence {observation.sequence} after {self._last_sequence}: it must increase",
                sequence=str(observation.sequence),
            )
        if observation.replayed and self._live:
            raise InvalidInput(
                f"observation {observation.sequence} is marked replayed but follows a live one",
                sequence=str(observation.sequence),
            )
        self._last_sequence = observation.sequence
        if not observation.replayed:
            self._live = True
            self._unanswered += 1
        superseded = self._scheduler.submit(self._rollout, observation)
        if superseded is not None:
            self.deliver(superseded)

    async def room(self) -> None:
        """Waits until the reader of outcomes has caught up."""
        await self._room.wait()

    def deliver(self, outcome: Outcome) -> None:
        """Hands an outcome to the reader; after a `Failed` nothing more comes."""
        if self._closed:
            return
        self._unanswered -= 1
        self._outcomes.put_nowait(outcome)
        if isinstance(outcome, Failed):
            self.close()
            return
        if self._outcomes.qsize() >= MAX_UNREAD:
            self._room.clear()
        self._end_if_done()

    def fail(self, error: Gen2ActError) -> None:
        """Ends the rollout with an error, after the outcomes that are already there."""
        self.deliver(Failed(error))

    def end_input(self) -> None:
        """No more observations come; the stream ends when all are answered."""
        self._input_ended = True
        self._end_if_done()

    async def next_outcome(self) -> Outcome | None:
        """The next outcome, or None at the end. Raises the error the rollout failed with."""
        outcome = await self._outcomes.get()
        if self._outcomes.qsize() < MAX_UNREAD:
            self._room.set()
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    def close(self) -> None:
        """Frees what the rollout holds. May be called again."""
        if not self._closed:
            self._closed = True
            self._room.set()
            self._scheduler.close(self._rollout)
            self._on_close()

    def _end_if_done(self) -> None:
        if self._input_ended and self._unanswered <= 0 and not self._closed:
            self._outcomes.put_nowait(None)
