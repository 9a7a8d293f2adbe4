"""Redis as the store of videos and goal tokens."""

from typing import Any

from gen2act_servicekit import redis


class RedisStore:
    """Implements `goals.Store`. Raises `StoreUnavailable` while Redis cannot be reached."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, key: str) -> bytes | None:
        with redis.guard():
            value: bytes | None = await self._client.get(key)
        return value

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        with redis.guard():
            await self._client.set(key, value, ex=ttl_s)
