"""A whole orchestrator on a real Redis-compatible server, with fakes at its edges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gen2act_orchestrator.app import Orchestrator, orchestrator
from gen2act_orchestrator.domain.task import Limits
from gen2act_orchestrator.service.patience import Patience
from gen2act_orchestrator.service.settings import RunSettings
from gen2act_orchestrator.settings import OrchestratorSettings
from gen2act_orchestrator.testing import FakePolicy, FakeRobot, FakeVideogen, serving
from gen2act_servicekit.testing import LocalRedis, eventually

HURRY = RunSettings(
    limits=Limits(max_restarts=3, robot_wait_s=20.0),
    store_patience=Patience(total_s=20.0, first_pause_s=0.02, longest_pause_s=0.1),
    peer_patience=Patience(total_s=20.0, first_pause_s=0.02, longest_pause_s=0.1),
    restart_pause_s=0.01,
    progress_every_s=60.0,  # phases are told whenever they change
    poll_s=0.05,
    hold_s=2.0,
)


@dataclass
class Replica:
    """One running orchestrator and a client of its HTTP API."""

    inner: Orchestrator
    http: httpx.AsyncClient
    registry: CollectorRegistry

    @property
    def gateway(self) -> str:
        return self.inner.gateway.address

    async def submit(self, instruction: str = "open the drawer", **more: Any) -> str:
        answer = await self.http.post("/tasks", json={"instruction": instruction, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until(self, task_id: str, *statuses: str, deadline_s: float = 30.0) -> dict[str, Any]:
        """The task once its status is one of these."""
        seen: dict[str, Any] = {}

        async def reached() -> bool:
            nonlocal seen
            seen = await self.task(task_id)
            return seen["status"] in statuses

        try:
            await eventually(reached, deadline_s=deadline_s)
        except AssertionError:
            raise AssertionError(f"never {statuses}: {seen}") from None
        return seen

    async def until_stage(self, task_id: str, number: int, status: str) -> dict[str, Any]:
        """The task once its stage has this status."""
        seen: dict[str, Any] = {}

        async def reached() -> bool:
            nonlocal seen
            seen = await self.task(task_id)
            stages = seen["stages"]
            return len(stages) > number and stages[number]["status"] == status

        try:
            await eventually(reached, deadline_s=30.0)
        except AssertionError:
            raise AssertionError(f"stage {number} never {status}: {seen}") from None
        return seen

    async def events(self, task_id: str, last_id: str = "") -> list[tuple[str, str, str]]:
        """(id, type, data) of all events of a task that is over."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        answer = await self.http.get(f"/tasks/{task_id}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        found = []
        for block in answer.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                found.append((fields["id"], fields["event"], fields["data"]))
        return found


@dataclass
class World:
    """Redis and the fake peers, which outlive replicas."""

    redis: LocalRedis
    videogen: FakeVideogen
    policy: FakePolicy
    addresses: dict[str, str]
    run: RunSettings = HURRY
    settings: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def replica(self, **settings: Any) -> AsyncIterator[Replica]:
        """A new orchestrator process, so to speak, on the same store."""
        registry = CollectorRegistry()
        chosen = OrchestratorSettings(
            redis_url=self.redis.url,
            gateway_port=0,
            sweep_every_s=0.05,
            drain_s=5.0,
            **{"lease_s": 2.0, **self.addresses, **self.settings, **settings},
        )
        async with orchestrator(chosen, registry, self.run) as inner:
            transport = httpx.ASGITransport(inner.http, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                yield Replica(inner, http, registry)

    def limit(self, **limits: Any) -> None:
        self.run = replace(self.run, limits=replace(self.run.limits, **limits))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[LocalRedis]:
    with LocalRedis(tmp_path) as server:
        yield server


@pytest.fixture
async def world(redis_server: LocalRedis) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        videogen, policy = FakeVideogen(), FakePolicy()
        videogen_address, _ = await stack.enter_async_context(serving(videogen))
        policy_address, _ = await stack.enter_async_context(serving(policy))
        yield World(
            redis_server,
            videogen,
            policy,
            {"videogen": videogen_address, "policy": policy_address},
        )


@pytest.fixture
async def replica(world: World) -> AsyncIterator[Replica]:
    async with world.replica() as running:
        yield running


@pytest.fixture
async def robot(replica: Replica) -> AsyncIterator[FakeRobot]:
    async with FakeRobot(replica.gateway).attach() as attached:
        yield attached


@pytest.fixture(autouse=True)
async def no_task_left_behind() -> AsyncIterator[None]:
    """Every background task has an owner that ends it."""
    yield
    left = [
        task
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and "gen2act" in repr(task.get_coro())
    ]
    assert not left, left
