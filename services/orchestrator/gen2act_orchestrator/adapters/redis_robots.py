"""Leases of robots and what is known of them."""

from __future__ import annotations

import json

from redis.asyncio import Redis

from gen2act_contracts.errors import RobotIdInUse, UnknownRobot
from gen2act_orchestrator.adapters import keys
from gen2act_orchestrator.adapters.codec import ROBOT, RobotEntry
from gen2act_orchestrator.adapters.replies import Reply, text, texts
from gen2act_orchestrator.service.values import Driver, RobotRecord
from gen2act_servicekit.redis import guard

# Take the lease unless another instance of a robot client holds it. A reconnecting instance takes
# over its own lease at once, whichever replica it reached before.
_ACQUIRE = """
local held = redis.call('GET', KEYS[1])
if held and cjson.decode(held).instance_id ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
# A lease that ran out while Redis was away is ours again unless someone else took it.
_RENEW = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


class RedisRobotStore:
    """`RobotStore` over Redis."""

    def __init__(self, redis: Redis, lease_s: float) -> None:
        self._redis = redis
        self._lease_ms = int(lease_s * 1000)
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)

    async def acquire(self, driver: Driver, lease_id: str, now: float) -> None:
        with guard():
            taken = await self._acquire(
                keys=[keys.lease(driver.robot_id)],
                args=[driver.instance_id, _lease(driver, lease_id), self._lease_ms],
            )
            if not taken:
                raise RobotIdInUse(
                    f"another robot is attached as {driver.robot_id!r}; give each robot its own "
                    f"--robot-id, or wait {self._lease_ms / 1000:.0f} s if it has just died",
                    robot_id=driver.robot_id,
                )
            entry = ROBOT.dump_json(RobotEntry(driver, now))
            await self._redis.hset(keys.ROBOTS, driver.robot_id, entry)

    async def renew(self, driver: Driver, lease_id: str) -> bool:
        with guard():
            kept = await self._renew(
                keys=[keys.lease(driver.robot_id)],
                args=[_lease(driver, lease_id), self._lease_ms],
            )
        return bool(kept)

    async def release(self, driver: Driver, lease_id: str) -> None:
        with guard():
            await self._release(keys=[keys.lease(driver.robot_id)], args=[_lease(driver, lease_id)])

    async def robots(self) -> list[RobotRecord]:
        with guard():
            entries = await self._redis.hgetall(keys.ROBOTS)
            stopped = await self._redis.hgetall(keys.STOPPED)
            ids = sorted(texts(entries))
            held = await self._redis.mget([keys.lease(i) for i in ids]) if ids else []
        return [
            _record(entries[i.encode()], lease is not None, stopped.get(i.encode()))
            for i, lease in zip(ids, held, strict=True)
        ]

    async def robot(self, robot_id: str) -> RobotRecord:
        with guard():
            entry = await self._redis.hget(keys.ROBOTS, robot_id)
            if entry is None:
                known = sorted(texts(await self._redis.hkeys(keys.ROBOTS)))
                names = ", ".join(known[:20]) or "none has ever attached"
                raise UnknownRobot(
                    f"there is no robot {robot_id[:64]!r}; known robots: {names}",
                    robot_id=robot_id[:64],
                )
            held = await self._redis.exists(keys.lease(robot_id))
            stopped = await self._redis.hget(keys.STOPPED, robot_id)
        return _record(entry, bool(held), stopped)

    async def set_stopped(self, robot_id: str, reason: str | None) -> None:
        with guard():
            if reason is None:
                await self._redis.hdel(keys.STOPPED, robot_id)
            else:
                await self._redis.hset(keys.STOPPED, robot_id, reason)

    async def stop_reason(self, robot_id: str) -> str | None:
        with guard():
            reason = await self._redis.hget(keys.STOPPED, robot_id)
        return text(reason) if reason is not None else None


def _lease(driver: Driver, lease_id: str) -> str:
    return json.dumps({"instance_id": driver.instance_id, "lease_id": lease_id})


def _record(entry: Reply, attached: bool, stopped: Reply | None) -> RobotRecord:
    robot = ROBOT.validate_json(entry)
    return RobotRecord(
        driver=robot.driver,
        last_attached_at=robot.last_attached_at,
        attached=attached,
        stopped=text(stopped) if stopped is not None else None,
    )
