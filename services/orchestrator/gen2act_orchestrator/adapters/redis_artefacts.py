"""Pictures of stages and uploaded videos in Redis, bounded in number, size and time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from gen2act_contracts import keys as shared_keys
from gen2act_contracts.errors import ArtefactMissing, VideoExpired
from gen2act_orchestrator.adapters import keys
from gen2act_orchestrator.adapters.replies import data
from gen2act_servicekit.redis import guard


@dataclass(frozen=True)
class ArtefactBounds:
    """How much is kept, and for how long."""

    frames: int = 600  # per stage; the newest are kept
    frame_bytes: int = 256 * 1024  # a larger picture is not recorded
    keep_s: int = 24 * 3600  # [s]


class RedisArtefactStore:
    """`ArtefactStore` over Redis."""

    def __init__(self, redis: Redis, bounds: ArtefactBounds | None = None) -> None:
        self._redis = redis
        self._bounds = bounds or ArtefactBounds()

    async def put_first(self, task_id: str, stage: int, jpeg: bytes) -> None:
        with guard():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(
                    keys.artefact(task_id, stage, "frames"), keys.artefact(task_id, stage, "last")
                )
                pipe.set(keys.artefact(task_id, stage, "first"), jpeg, ex=self._bounds.keep_s)
                await pipe.execute()

    async def put_last(self, task_id: str, stage: int, jpeg: bytes) -> None:
        with guard():
            await self._redis.set(
                keys.artefact(task_id, stage, "last"), jpeg, ex=self._bounds.keep_s
            )

    async def add_frames(self, task_id: str, stage: int, jpegs: Sequence[bytes]) -> None:
        name = keys.artefact(task_id, stage, "frames")
        fitting = [jpeg for jpeg in jpegs if len(jpeg) <= self._bounds.frame_bytes]
        if not fitting:
            return
        with guard():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.rpush(name, *fitting)
                pipe.ltrim(name, -self._bounds.frames, -1)
                pipe.expire(name, self._bounds.keep_s)
                await pipe.execute()

    async def first(self, task_id: str, stage: int) -> bytes:
        return await self._picture(task_id, stage, "first")

    async def last(self, task_id: str, stage: int) -> bytes:
        return await self._picture(task_id, stage, "last")

    async def _picture(self, task_id: str, stage: int, name: str) -> bytes:
        with guard():
            jpeg = await self._redis.get(keys.artefact(task_id, stage, name))
        if jpeg is None:
            raise ArtefactMissing(
                f"the {name} frame of stage {stage} is not there (yet, or no more)"
            )
        return data(jpeg)

    async def frames(self, task_id: str, stage: int) -> list[bytes]:
        with guard():
            frames = await self._redis.lrange(keys.artefact(task_id, stage, "frames"), 0, -1)
        if not frames:
            raise ArtefactMissing(f"stage {stage} has no recorded frames (yet, or no more)")
        return [data(frame) for frame in frames]

    async def put_video(self, mp4: bytes, meta: dict[str, object]) -> str:
        video_id = hashlib.sha256(mp4).hexdigest()
        with guard():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(shared_keys.video_key(video_id), mp4, ex=self._bounds.keep_s)
                pipe.set(
                    shared_keys.video_meta_key(video_id), json.dumps(meta), ex=self._bounds.keep_s
                )
                await pipe.execute()
        return video_id

    async def video(self, video_id: str) -> bytes:
        with guard():
            mp4 = await self._redis.get(shared_keys.video_key(video_id))
        if mp4 is None:
            raise VideoExpired(
                f"video {video_id[:64]!r} is unknown or has expired; upload it again with POST "
                "/videos",
                video_id=video_id[:64],
            )
        return data(mp4)

    async def has_video(self, video_id: str) -> bool:
        with guard():
            return bool(await self._redis.exists(shared_keys.video_key(video_id)))
