import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from gen2act_contracts import keys, video
from gen2act_contracts.errors import (
    GoalExpired,
    InvalidInput,
    InvalidVideo,
    StoreUnavailable,
    VideoExpired,
)
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.goals import (
    GoalCache,
    Goals,
    check_video_id,
    goal_frames,
    goal_id,
    pack,
    sample_indices,
    unpack,
    video_of,
)
from gen2act_policy.scheduler import Scheduler
from gen2act_policy.testing import FakeRuntime, MemoryStore, free_costs


def mp4(frames: int = 20, side: int = 32, height: int | None = None) -> bytes:
    shape = (height or side, side, 3)
    return video.encode_mp4([np.full(shape, 8 * i, np.uint8) for i in range(frames)], 10)


@pytest.mark.parametrize("count", [16, 17, 40, 189, 512])
def test_samples_are_even_and_include_first_and_last(count: int) -> None:
    indices = sample_indices(count, 16)
    assert len(indices) == 16
    assert (indices[0], indices[-1]) == (0, count - 1)
    gaps = np.diff(indices)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_a_short_video_repeats_frames() -> None:
    assert sample_indices(1, 16) == [0] * 16
    assert sample_indices(2, 16) == [0] * 8 + [1] * 8


def test_goal_frames_are_resized_to_the_spec() -> None:
    frames = goal_frames(mp4(side=64), 16, 32)
    assert frames.shape == (16, 32, 32, 3)
    assert frames[0].mean() < 5
    assert frames[-1].mean() > 140


def test_a_video_that_is_not_square_is_refused() -> None:
    with pytest.raises(InvalidVideo, match="32x48"):
        goal_frames(mp4(side=32, height=48), 16, 32)


def test_broken_video_is_refused() -> None:
    with pytest.raises(InvalidVideo):
        goal_frames(b"not a video", 16, 32)


def test_a_goal_id_names_its_video_and_model() -> None:
    assert video_of(goal_id("abc-1", "f" * 64), "f" * 64) == "abc-1"


def test_a_goal_of_another_model_is_refused() -> None:
    with pytest.raises(GoalExpired, match="PrepareGoal"):
        video_of(goal_id("abc", "a" * 64), "f" * 64)


@pytest.mark.parametrize("bad", ["", "a b", "a:b", "a" * 129, "a/../b", "ä", "a\n"])
def test_ids_that_cannot_be_stored_are_refused(bad: str) -> None:
    with pytest.raises(InvalidInput):
        check_video_id(bad)
    with pytest.raises(InvalidInput):
        video_of(goal_id(bad, "f" * 64), "f" * 64)


def test_packed_goals_come_back_exactly() -> None:
    goal = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    again = unpack(pack(goal))
    assert again is not None
    np.testing.assert_array_equal(again, goal)


def test_what_is_not_a_packed_goal_is_none() -> None:
    whole = pack(np.zeros(3, np.float32))
    not_a_number = pack(np.full(3, np.nan, np.float32))
    for data in (b"", b"junk", whole[:-4], not_a_number):
        assert unpack(data) is None


def test_the_memory_of_goals_forgets_the_least_recently_used() -> None:
    cache = GoalCache(2)
    for name in ("a", "b"):
        cache.put(name, np.zeros(1, np.float32))
    assert cache.get("a") is not None
    cache.put("c", np.zeros(1, np.float32))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert len(cache) == 2


@dataclass
class House:
    store: MemoryStore
    runtime: FakeRuntime
    goals: Goals
    scheduler: Scheduler
    executor: ThreadPoolExecutor
    model_hash: str

    def replica(self) -> Goals:
        """Another replica: same store, empty memory."""
        return Goals(
            self.store,
            self.scheduler,
            model_hash=self.model_hash,
            samples=16,
            image_size=32,
            executor=self.executor,
        )


@pytest.fixture
def parts(spec: ActionSpec) -> Iterator[tuple[FakeRuntime, Scheduler, ThreadPoolExecutor]]:
    runtime = FakeRuntime(spec)
    scheduler = Scheduler(
        runtime,
        spec,
        encode_cost=free_costs(),
        step_cost=free_costs(),
        post=lambda results: None,
    )
    scheduler.start()
    with ThreadPoolExecutor(1) as executor:
        yield runtime, scheduler, executor
    scheduler.stop()


@pytest.fixture
async def house(
    spec: ActionSpec, parts: tuple[FakeRuntime, Scheduler, ThreadPoolExecutor]
) -> AsyncIterator[House]:
    runtime, scheduler, executor = parts
    store = MemoryStore()
    store.values[keys.video_key("v1")] = mp4()
    goals = Goals(
        store,
        scheduler,
        model_hash=spec.model_hash,
        samples=16,
        image_size=32,
        executor=executor,
        capacity=2,
    )
    yield House(store, runtime, goals, scheduler, executor, spec.model_hash)


async def test_a_video_is_encoded_once(house: House) -> None:
    first, cached = await house.goals.tokens("v1")
    assert not cached
    again, cached = await house.goals.tokens("v1")
    assert cached
    np.testing.assert_array_equal(first, again)
    assert sum(house.runtime.encoded) == 16


async def test_callers_at_the_same_time_share_the_work(house: House) -> None:
    await asyncio.gather(*(house.goals.tokens("v1") for _ in range(5)))
    assert sum(house.runtime.encoded) == 16


async def test_a_caller_that_goes_away_does_not_stop_the_others(house: House) -> None:
    gone = asyncio.create_task(house.goals.tokens("v1"))
    stays = asyncio.create_task(house.goals.tokens("v1"))
    await asyncio.sleep(0)  # both have asked
    gone.cancel()
    goal, _ = await stays
    assert goal.shape == (64, 3)


async def test_another_replica_takes_tokens_from_the_store(house: House) -> None:
    goal, _ = await house.goals.tokens("v1")
    del house.store.values[keys.video_key("v1")]
    again, cached = await house.replica().tokens("v1")
    assert cached
    np.testing.assert_array_equal(goal, again)
    assert sum(house.runtime.encoded) == 16


async def test_unreadable_stored_tokens_are_made_again(house: House) -> None:
    house.store.values[keys.goal_key("v1", house.model_hash)] = b"junk"
    _, cached = await house.goals.tokens("v1")
    assert not cached
    assert unpack(house.store.values[keys.goal_key("v1", house.model_hash)]) is not None


async def test_a_video_that_is_gone_is_said_to_have_expired(house: House) -> None:
    with pytest.raises(VideoExpired, match="gone"):
        await house.goals.tokens("gone")


async def test_a_failure_is_not_remembered(house: House) -> None:
    house.store.down = True
    with pytest.raises(StoreUnavailable):
        await house.goals.tokens("v1")
    house.store.down = False
    goal, _ = await house.goals.tokens("v1")
    assert goal.shape == (64, 3)


async def test_tokens_in_memory_need_no_store(house: House) -> None:
    await house.goals.tokens("v1")
    house.store.down = True
    _, cached = await house.goals.tokens("v1")
    assert cached


async def test_tokens_that_cannot_be_shared_are_still_served(house: House) -> None:
    house.store.read_only = True
    goal, cached = await house.goals.tokens("v1")
    assert not cached
    assert goal.shape == (64, 3)
