import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from gen2act_contracts.errors import Draining
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.history import LazyFrame
from gen2act_policy.outcomes import EXPIRED, Dropped, Observation, Timing
from gen2act_policy.scheduler import Scheduler
from gen2act_policy.session import MAX_UNREAD, Session
from gen2act_policy.testing import FakeRuntime, free_costs


class Parts:
    """A session whose scheduler was never started: nothing comes out but what a test delivers."""

    def __init__(self, spec: ActionSpec) -> None:
        self.closed = 0
        scheduler = Scheduler(
            FakeRuntime(spec),
            spec,
            encode_cost=free_costs(),
            step_cost=free_costs(),
            post=lambda results: None,
        )
        self.session = Session(
            "robot",
            scheduler.open(np.zeros(1, np.float32)),
            scheduler,
            on_close=self.on_close,
        )

    def on_close(self) -> None:
        self.closed += 1


@pytest.fixture
def parts(spec: ActionSpec) -> Iterator[Parts]:
    yield Parts(spec)


def observation(sequence: int) -> Observation:
    frame = LazyFrame(lambda: np.zeros((32, 32, 3), np.uint8))
    return Observation(sequence, 0, 0.0, 1e9, frame, None)


def dropped(sequence: int) -> Dropped:
    return Dropped(observation(sequence), EXPIRED, Timing())


async def test_observations_wait_while_replies_are_not_read(parts: Parts) -> None:
    session = parts.session
    for sequence in range(MAX_UNREAD):
        await session.room()
        session.deliver(dropped(sequence))
    blocked = asyncio.create_task(session.room())
    await asyncio.sleep(0)
    assert not blocked.done()
    await session.next_outcome()
    await blocked


async def test_outcomes_come_out_in_order_before_the_error(parts: Parts) -> None:
    session = parts.session
    session.deliver(dropped(1))
    session.fail(Draining("bye"))
    first = await session.next_outcome()
    assert isinstance(first, Dropped)
    with pytest.raises(Draining):
        await session.next_outcome()


async def test_nothing_is_delivered_after_the_end(parts: Parts) -> None:
    session = parts.session
    session.fail(Draining("bye"))
    session.deliver(dropped(1))
    session.close()
    with pytest.raises(Draining):
        await session.next_outcome()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await session.next_outcome()
    assert parts.closed == 1


async def test_the_end_waits_for_unanswered_observations(parts: Parts) -> None:
    session = parts.session
    session.observe(observation(1))
    session.end_input()
    end = asyncio.create_task(session.next_outcome())
    await asyncio.sleep(0)
    assert not end.done()
    session.deliver(dropped(1))
    assert isinstance(await end, Dropped)
    assert await session.next_outcome() is None
