"""Videos in Redis: MP4 bytes under their own sha256, provenance beside them, one index by request.

Three keys per video, written in one transaction and living equally long:

    video_key(id)                    the MP4, for whoever knows the id (gen2act_contracts.keys)
    video_meta_key(id)               its provenance as JSON, likewise
    gen2act:videogen:request:{key}   the answer to one request, so that it is never computed twice

Two requests may lead to the same bytes (a recording does not depend on the seed), which is why the
index holds the whole answer and not only an id.
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio import Redis

from gen2act_contracts import keys
from gen2act_contracts.errors import VideoExpired
from gen2act_servicekit.redis import guard
from gen2act_videogen.gate import GateReport


class StoredVideo(BaseModel):
    """What is known about a stored video; the JSON under its meta key."""

    model_config = ConfigDict(frozen=True)

    video_id: str  # sha256 (hex) of the MP4 bytes
    frames: int
    fps: float
    size: int  # [px]
    prompt: str
    first_frame_sha256: str
    seed: int
    backend: str
    model: str
    seconds: float  # wall time of the generation [s]
    source_video_id: str = ""  # the recording it was made from, if any
    gate: GateReport


class VideoStore(Protocol):
    """Where videos live between the services."""

    async def find(self, request_key: str) -> StoredVideo | None:
        """The answer to a request while all of it lives; extends its life."""

    async def put(self, request_key: str, mp4: bytes, video: StoredVideo) -> None:
        """Stores a video, its provenance and the answer to the request."""

    async def recording(self, video_id: str) -> bytes:
        """An uploaded video's bytes. Raises VideoExpired if it is gone."""

    async def ping(self) -> None:
        """Raises StoreUnavailable if the store cannot be reached."""


class RedisVideoStore:
    """`VideoStore` in Redis. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def find(self, request_key: str) -> StoredVideo | None:
        index = _index_key(request_key)
        with guard():
            text = await self._redis.get(index)
            if text is None:
                return None
            try:
                video = StoredVideo.model_validate_json(text)
            except ValidationError:
                return None  # written by another version; made anew
            async with self._redis.pipeline(transaction=True) as pipe:
                for key in (*_content_keys(video.video_id), index):
                    pipe.expire(key, self._ttl_s)
                alive = await pipe.execute()
        return video if all(alive) else None

    async def put(self, request_key: str, mp4: bytes, video: StoredVideo) -> None:
        text = video.model_dump_json()
        content, meta = _content_keys(video.video_id)
        with guard():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(content, mp4, ex=self._ttl_s)
                pipe.set(meta, text, ex=self._ttl_s)
                pipe.set(_index_key(request_key), text, ex=self._ttl_s)
                await pipe.execute()

    async def recording(self, video_id: str) -> bytes:
        with guard():
            data: Any = await self._redis.get(keys.video_key(video_id))
        if data is None:
            raise VideoExpired(
                f"the uploaded video {video_id!r} is not stored (any more); upload it again",
                video_id=video_id,
            )
        return bytes(data)

    async def ping(self) -> None:
        with guard():
            await self._redis.ping()


def content_id(mp4: bytes) -> str:
    """sha256 (hex) of the MP4 bytes."""
    return hashlib.sha256(mp4).hexdigest()


def _index_key(request_key: str) -> str:
    return f"{keys.PREFIX}videogen:request:{request_key}"


def _content_keys(video_id: str) -> tuple[str, str]:
    return keys.video_key(video_id), keys.video_meta_key(video_id)
