"""The task store: one JSON per task, one stream of its events, written together."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from gen2act_contracts.errors import (
    IdempotencyMismatch,
    Internal,
    InvalidInput,
    Overloaded,
    StoreUnavailable,
    UnknownTask,
)
from gen2act_orchestrator.adapters import keys
from gen2act_orchestrator.adapters.codec import (
    EVENT,
    IDEMPOTENCY,
    TASK,
    IdempotencyRecord,
    TaskRecord,
    read_task,
)
from gen2act_orchestrator.adapters.replies import Reply, text, texts
from gen2act_orchestrator.domain import transitions
from gen2act_orchestrator.domain.events import Event, StoredEvent
from gen2act_orchestrator.domain.task import Change, Task
from gen2act_orchestrator.service.ports import Transition
from gen2act_orchestrator.service.values import Idempotency, TaskPage
from gen2act_servicekit.redis import guard

_CONFLICTS = 20  # other writers that may come in between before we give up
_QUEUE_READ = 200  # tasks looked at when a robot asks for its next
_PRUNE = 100  # expired tasks dropped from the listing per page read


@dataclass(frozen=True)
class TaskBounds:
    """How much is kept, and for how long."""

    live_tasks: int = 1000  # accepted and not over; more are refused
    events_per_task: int = 10_000
    keep_s: int = 7 * 24 * 3600  # [s] a task that is over
    idempotency_s: int = 24 * 3600  # [s]


class RedisTaskStore:
    """`TaskStore` over Redis. Optimistic: WATCH, read, decide, MULTI."""

    def __init__(self, redis: Redis, bounds: TaskBounds | None = None) -> None:
        self._redis = redis
        self._bounds = bounds or TaskBounds()

    async def earlier(self, idempotency: Idempotency) -> Task | None:
        with guard():
            raw = await self._redis.get(keys.idempotency(idempotency.key))
        return None if raw is None else await self._same(raw, idempotency)

    async def create(self, draft: Task, idempotency: Idempotency | None) -> tuple[Task, bool]:
        with guard():
            if await self._redis.scard(keys.LIVE) >= self._bounds.live_tasks:
                raise Overloaded(
                    f"{self._bounds.live_tasks} tasks are waiting or running; try again later"
                )
            sequence = int(await self._redis.incr(keys.SEQUENCE))
            task = replace(draft, sequence=sequence)
            for _ in range(_CONFLICTS):
                async with self._redis.pipeline(transaction=True) as pipe:
                    if idempotency is not None:
                        name = keys.idempotency(idempotency.key)
                        await pipe.watch(name)
                        earlier = await pipe.get(name)
                        if earlier is not None:
                            return await self._same(earlier, idempotency), False
                    pipe.multi()  # type: ignore[no-untyped-call]
                    if idempotency is not None:
                        record = IdempotencyRecord(idempotency.fingerprint, task.id)
                        pipe.set(name, IDEMPOTENCY.dump_json(record), ex=self._bounds.idempotency_s)
                    pipe.zadd(keys.TASKS, {task.id: sequence})
                    self._write(pipe, None, transitions.accepted(task), "")
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return task, True
        raise StoreUnavailable("too many requests with the same idempotency key at once")

    async def _same(self, earlier: Reply, asked: Idempotency) -> Task:
        record = IDEMPOTENCY.validate_json(earlier)
        if record.fingerprint != asked.fingerprint:
            raise IdempotencyMismatch(
                "this Idempotency-Key was used for another request; use a new key", key=asked.key
            )
        return await self.load(record.task_id)

    async def load(self, task_id: str) -> Task:
        with guard():
            raw = await self._redis.get(keys.task(task_id))
        if raw is None:
            raise UnknownTask(f"there is no task {task_id[:64]!r}")
        return read_task(raw).task

    async def update(
        self, task_id: str, transition: Transition, *, write_id: str | None = None
    ) -> Task:
        write_id = write_id or uuid.uuid4().hex
        name = keys.task(task_id)
        with guard():
            for _ in range(_CONFLICTS):
                async with self._redis.pipeline(transaction=True) as pipe:
                    await pipe.watch(name)
                    raw = await pipe.get(name)
                    if raw is None:
                        raise UnknownTask(f"there is no task {task_id[:64]!r}")
                    record = read_task(raw)
                    if record.write_id == write_id:  # an earlier try got through after all
                        return record.task
                    change = transition(record.task)
                    if change.task == record.task and not change.events:
                        return change.task
                    pipe.multi()  # type: ignore[no-untyped-call]
                    self._write(pipe, record.task, change, write_id)
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return change.task
        raise StoreUnavailable(f"task {task_id} is being changed by too many at once")

    def _write(self, pipe: Pipeline, before: Task | None, change: Change, write_id: str) -> None:
        task = change.task
        keep = self._bounds.keep_s if task.is_over else None
        pipe.set(keys.task(task.id), TASK.dump_json(TaskRecord(task, write_id)), ex=keep)
        self._append(pipe, task.id, change.events)
        if task.is_over:
            pipe.expire(keys.events(task.id), self._bounds.keep_s)
            pipe.srem(keys.LIVE, task.id)
            pipe.zrem(keys.queue(task.robot_id), task.id)
            if before is not None and before.robot_id != task.robot_id:
                pipe.zrem(keys.queue(before.robot_id), task.id)
        elif before is None or before.robot_id != task.robot_id:
            pipe.sadd(keys.LIVE, task.id)
            if before is not None:
                pipe.zrem(keys.queue(before.robot_id), task.id)
            pipe.zadd(keys.queue(task.robot_id), {task.id: task.sequence})

    def _append(self, pipe: Pipeline, task_id: str, events: Sequence[Event]) -> None:
        for event in events:
            pipe.xadd(
                keys.events(task_id),
                {"event": EVENT.dump_json(event)},
                maxlen=self._bounds.events_per_task,
                approximate=True,
            )

    async def note(self, task_id: str, events: Sequence[Event]) -> None:
        with guard():
            async with self._redis.pipeline(transaction=False) as pipe:
                self._append(pipe, task_id, events)
                await pipe.execute()

    async def read_events(
        self, task_id: str, after: str, *, wait_s: float, limit: int = 100
    ) -> list[StoredEvent]:
        block = max(1, int(wait_s * 1000)) if wait_s > 0 else None
        with guard():
            found = await self._redis.xread({keys.events(task_id): after}, count=limit, block=block)
        return [
            StoredEvent(entry_id.decode(), EVENT.validate_json(fields[b"event"]))
            for _, entries in _streams(found)
            for entry_id, fields in entries
        ]

    async def last_event_id(self, task_id: str) -> str:
        with guard():
            last = await self._redis.xrevrange(keys.events(task_id), count=1)
        return text(last[0][0] or b"0") if last else "0"

    async def page(self, cursor: str | None, limit: int) -> TaskPage:
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise InvalidInput(f"cursor {cursor[:40]!r} is not one that a listing returned")
        below = f"({cursor}" if cursor is not None else "+inf"
        with guard():
            found = await self._redis.zrevrangebyscore(
                keys.TASKS, below, "-inf", start=0, num=limit + 1, withscores=True
            )
            listed = [(text(task_id), int(score)) for task_id, score in _scored(found)]
            raws = await self._get([task_id for task_id, _ in listed])
            expired = [i for (i, _), raw in zip(listed, raws, strict=True) if raw is None]
            if expired:
                await self._redis.zrem(keys.TASKS, *expired[:_PRUNE])
        tasks = tuple(read_task(raw).task for raw in raws[:limit] if raw is not None)
        return TaskPage(tasks, str(listed[limit - 1][1]) if len(listed) > limit else None)

    async def queue(self, robot_id: str) -> list[Task]:
        with guard():
            own = await self._redis.zrange(keys.queue(robot_id), 0, _QUEUE_READ - 1)
            anyones = await self._redis.zrange(keys.queue(None), 0, _QUEUE_READ - 1)
            raws = await self._get([*_members(own), *_members(anyones)])
        tasks = [read_task(raw).task for raw in raws if raw is not None]
        return sorted(tasks, key=lambda task: task.sequence)

    async def live(self) -> list[Task]:
        with guard():
            raws = await self._get(texts(await self._redis.smembers(keys.LIVE)))
        return [read_task(raw).task for raw in raws if raw is not None]

    async def _get(self, ids: list[str]) -> list[Reply | None]:
        return list(await self._redis.mget([keys.task(i) for i in ids])) if ids else []

    async def ping(self) -> None:
        with guard():
            if not await self._redis.ping():
                raise Internal("Redis answered PING with something else than PONG")


def _members(found: object) -> list[str]:
    """A range without scores; declared as anything by the client library."""
    assert isinstance(found, list)
    return texts(found)


def _scored(found: object) -> list[tuple[Reply, float]]:
    """A reply WITHSCORES; declared as anything by the client library."""
    assert isinstance(found, list)
    return [(member, score) for member, score in found]


def _streams(found: object) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """XREAD's reply in one shape: a mapping under RESP3, a list of pairs under RESP2."""
    if not found:
        return []
    if isinstance(found, dict):
        return [(name, chunk[0] if len(chunk) == 1 else chunk) for name, chunk in found.items()]
    assert isinstance(found, list)
    return [(name, entries) for name, entries in found]
