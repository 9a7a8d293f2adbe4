"""Goal tokens of human videos: made once, kept in memory and in Redis, rebuilt when lost."""

import asyncio
import io
import re
from collections import OrderedDict
from concurrent.futures import Executor
from typing import Protocol

import numpy as np

from gen2act_contracts import frames, keys, video
from gen2act_contracts.errors import (
    GoalExpired,
    InvalidInput,
    InvalidVideo,
    StoreUnavailable,
    VideoExpired,
)
from gen2act_contracts.frames import Frame
from gen2act_policy.history import Floats, Pixels
from gen2act_policy.scheduler import Scheduler
from gen2act_servicekit import logs

log = logs.get(__name__)

VIDEO_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Store(Protocol):
    """Where videos are found and goal tokens shared. Raises `StoreUnavailable` when it is down."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_s: int) -> None: ...


def goal_id(video_id: str, model_hash: str) -> str:
    """Names what any replica with the same model needs to rebuild the tokens."""
    return f"{video_id}@{model_hash}"


def video_of(identifier: str, model_hash: str) -> str:
    """The video id in a goal id.

    Raises `InvalidInput` if it is not a goal id, `GoalExpired` if it is of another model.
    """
    video_id, at, made_by = identifier.rpartition("@")
    if not at:
        raise InvalidInput(f"goal_id {identifier[:80]!r} is not one that PrepareGoal gave")
    if made_by != model_hash:
        raise GoalExpired(
            f"goal {video_id[:80]!r} was prepared by model {made_by[:12]}, this replica serves "
            f"{model_hash[:12]}; call PrepareGoal again",
            model_hash=model_hash,
        )
    return check_video_id(video_id)


def check_video_id(video_id: str) -> str:
    """Raises `InvalidInput` for what cannot be the id of a stored video."""
    if not VIDEO_ID.fullmatch(video_id):
        raise InvalidInput(
            f"video_id must be 1 to 128 letters, digits, '.', '_' or '-', got {video_id[:80]!r}"
        )
    return video_id


def sample_indices(count: int, samples: int) -> list[int]:
    """`samples` evenly spaced frame numbers out of `count`, the first and the last among them.

    A shorter video repeats frames (paper, section 3.2: 16 frames of the human video).
    """
    if count < 1:
        raise InvalidVideo("the video has no frame")
    return [int(i) for i in np.round(np.linspace(0, count - 1, samples))]


def goal_frames(mp4: bytes, samples: int, size: int) -> Pixels:
    """uint8[samples, size, size, 3] of an MP4. Raises `InvalidVideo`. Blocking."""
    decoded, _ = video.decode_mp4(mp4)
    height, width = decoded.shape[1:3]
    if height != width:
        raise InvalidVideo(
            f"the human video is {width}x{height}; the policy needs a square one",
            width=str(width),
            height=str(height),
        )
    picked = [decoded[i] for i in sample_indices(len(decoded), samples)]
    if height != size:
        picked = [frames.resize(Frame(frame), size).pixels for frame in picked]
    return np.stack(picked)


def pack(goal: Floats) -> bytes:
    """Goal tokens as a .npy file: typed, shaped and never executable."""
    buffer = io.BytesIO()
    np.save(buffer, goal, allow_pickle=False)
    return buffer.getvalue()


def unpack(data: bytes) -> Floats | None:
    """Goal tokens float32[*G], or None if `data` is not what `pack` wrote."""
    try:
        goal = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    if not isinstance(goal, np.ndarray) or goal.dtype != np.float32:
        return None
    return goal if np.isfinite(goal).all() else None


class GoalCache:
    """Bounded memory of goal tokens; the least recently used goes first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._goals: OrderedDict[str, Floats] = OrderedDict()

    def __len__(self) -> int:
        return len(self._goals)

    def get(self, video_id: str) -> Floats | None:
        goal = self._goals.get(video_id)
        if goal is not None:
            self._goals.move_to_end(video_id)
        return goal

    def put(self, video_id: str, goal: Floats) -> None:
        self._goals[video_id] = goal
        self._goals.move_to_end(video_id)
        while len(self._goals) > self._capacity:
            self._goals.popitem(last=False)


class Goals:
    """Goal tokens by video id, for one model.

    Looked up in memory, then in Redis, then made from the stored video. Several calls for the
    same video share the work, and a caller that goes away does not stop it for the others.
    """

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        *,
        model_hash: str,
        samples: int,
        image_size: int,
        executor: Executor,
        capacity: int = 64,
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._model_hash = model_hash
        self._samples = samples
        self._image_size = image_size
        self._executor = executor
        self._cache = GoalCache(capacity)
        self._running: dict[str, asyncio.Task[tuple[Floats, bool]]] = {}

    async def tokens(self, video_id: str) -> tuple[Floats, bool]:
        """Goal tokens float32[*G], and whether they were there already.

        Raises `VideoExpired`, `InvalidVideo`, `StoreUnavailable`, `Overloaded`.
        """
        goal = self._cache.get(video_id)
        if goal is not None:
            return goal, True
        task = self._running.get(video_id)
        if task is None:
            task = asyncio.create_task(self._find(video_id))
            self._running[video_id] = task
            task.add_done_callback(lambda done: self._forget(video_id, done))
        return await asyncio.shield(task)

    async def _find(self, video_id: str) -> tuple[Floats, bool]:
        key = keys.goal_key(video_id, self._model_hash)
        stored = await self._store.get(key)
        if stored is not None:
            goal = unpack(stored)
            if goal is not None:
                self._cache.put(video_id, goal)
                return goal, True
            log.warning("stored_goal_unreadable", video_id=video_id)
        mp4 = await self._store.get(keys.video_key(video_id))
        if mp4 is None:
            raise VideoExpired(
                f"video {video_id!r} is no longer stored; generate it again", video_id=video_id
            )
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(
            self._executor, goal_frames, mp4, self._samples, self._image_size
        )
        goal = await asyncio.wrap_future(self._scheduler.encode_goal(pixels))
        self._cache.put(video_id, goal)
        try:
            await self._store.set(key, pack(goal), keys.GOAL_TTL_S)
        except StoreUnavailable as error:
            # The rollout can start from memory, and another replica can rebuild from the video.
            log.warning("goal_not_shared", video_id=video_id, reason=str(error))
        return goal, False

    def _forget(self, video_id: str, done: "asyncio.Task[tuple[Floats, bool]]") -> None:
        self._running.pop(video_id, None)
        if not done.cancelled():
            done.exception()  # seen: every caller may have gone away
