"""An orchestrator that dies, and one that is shut down, lose nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gen2act_orchestrator.testing import FakeRobot
from gen2act_servicekit.testing import eventually, free_port

if TYPE_CHECKING:
    from conftest import World


@dataclass
class Process:
    """`python -m gen2act_orchestrator`, for real."""

    world: World
    folder: Path
    http_port: int
    gateway_port: int
    popen: subprocess.Popen[bytes] | None = None

    @property
    def gateway(self) -> str:
        return f"127.0.0.1:{self.gateway_port}"

    @property
    def log(self) -> str:
        return (self.folder / "orchestrator.log").read_text()

    def client(self) -> httpx.AsyncClient:
        url = f"http://127.0.0.1:{self.http_port}"
        return httpx.AsyncClient(base_url=url, timeout=10.0, trust_env=False)

    async def start(self, **environment: str) -> None:
        """Start and wait until it is ready."""
        with (self.folder / "orchestrator.log").open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gen2act_orchestrator"],
                env={
                    **os.environ,
                    "GEN2ACT_REDIS_URL": self.world.redis.url,
                    "GEN2ACT_HTTP_PORT": str(self.http_port),
                    "GEN2ACT_GATEWAY_PORT": str(self.gateway_port),
                    "GEN2ACT_VIDEOGEN": self.world.addresses["videogen"],
                    "GEN2ACT_POLICY": self.world.addresses["policy"],
                    "GEN2ACT_LEASE_S": "2",
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        await eventually(self.is_ready, deadline_s=60, what="the orchestrator to be ready")

    async def is_ready(self) -> bool:
        assert self.popen is not None and self.popen.poll() is None, self.log
        async with self.client() as client:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; returns the exit code."""
        assert self.popen is not None
        self.popen.send_signal(number)
        # beside the event loop: the robot in it has to answer meanwhile
        code = await asyncio.to_thread(self.popen.wait, 30)
        self.popen = None
        return code

    async def submit(self, instruction: str) -> str:
        async with self.client() as client:
            answer = await client.post(
                "/tasks", json={"instruction": instruction, "max_ticks": 600}
            )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        async with self.client() as client:
            return dict((await client.get(f"/tasks/{task_id}")).json())

    async def until(self, task_id: str, status: str) -> dict[str, Any]:
        async def reached() -> bool:
            return str((await self.task(task_id))["status"]) == status

        await eventually(reached, deadline_s=40, what=f"{status}: {await self.task(task_id)}")
        return await self.task(task_id)


@pytest.fixture
async def process(world: World, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(world, tmp_path, free_port(), free_port())
    await process.start()
    yield process
    if process.popen is not None:
        await process.end(signal.SIGKILL)


@asynccontextmanager
async def persistent(robot: FakeRobot) -> AsyncIterator[FakeRobot]:
    """The robot client's loop: attach, and again after every break, until the block ends."""

    async def keep_attached() -> None:
        while True:
            try:
                await robot.run()
            except Exception:
                await asyncio.sleep(0.05)

    keeping = asyncio.create_task(keep_attached())
    try:
        yield robot
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def test_kill_9_amid_a_rollout_resumes_at_the_stage_boundary(process: Process) -> None:
    async with persistent(FakeRobot(process.gateway)) as robot:
        await eventually(lambda: robot.attached.is_set(), deadline_s=30)
        robot.ticks_to_done = 30
        task_id = await process.submit("open and close the drawer")
        queued = await process.submit("open the door")
        await eventually(lambda: len(robot.told("start_rollout")) == 2, what="the second stage")
        await eventually(lambda: robot.moving.is_set())
        await process.end(signal.SIGKILL)
        await eventually(lambda: not robot.moving.is_set(), what="the robot to hold")
        await process.start()
        task = await process.until(task_id, "succeeded")
        await process.until(queued, "succeeded")
    assert [stage["attempts"] for stage in task["stages"]] == [1, 2]


async def test_kill_9_with_a_robot_that_never_returns_fails_the_task(process: Process) -> None:
    robot = FakeRobot(process.gateway, ticks_to_done=None)
    async with robot.attach():
        task_id = await process.submit("open the drawer")
        await eventually(lambda: robot.moving.is_set())
        await process.end(signal.SIGKILL)
    await process.start(GEN2ACT_ROBOT_WAIT_S="1")
    task = await process.until(task_id, "failed")
    assert task["failure"]["code"] == "ROBOT_LOST"


async def test_tasks_accepted_before_a_crash_are_planned_and_run_after_it(
    process: Process,
) -> None:
    ids = [await process.submit("open the drawer") for _ in range(3)]
    await process.end(signal.SIGKILL)
    await process.start()
    async with persistent(FakeRobot(process.gateway)) as robot:
        for task_id in ids:
            await process.until(task_id, "succeeded")
        order = [c.reset_and_capture.task_id for c in robot.told("reset_and_capture")]
    assert order == ids


async def test_sigterm_brings_the_robot_to_rest_and_hands_the_task_back(
    process: Process,
) -> None:
    async with persistent(FakeRobot(process.gateway, ticks_to_done=None)) as robot:
        await eventually(lambda: robot.attached.is_set(), deadline_s=30)
        task_id = await process.submit("open the drawer")
        await eventually(lambda: robot.moving.is_set())
        assert await process.end(signal.SIGTERM) == 0
        assert len(robot.told("end_rollout")) == 1
        robot.ticks_to_done = 0
        await process.start()
        task = await process.until(task_id, "succeeded")
    assert task["stages"][0]["attempts"] == 2
    assert "Traceback" not in process.log


async def test_events_flow_while_they_happen_and_resume_over_a_restart(
    process: Process,
) -> None:
    async with persistent(FakeRobot(process.gateway, ticks_to_done=None)) as robot:
        await eventually(lambda: robot.attached.is_set(), deadline_s=30)
        task_id = await process.submit("open the drawer")
        seen: list[tuple[str, str]] = []
        last_id = await _read(process, task_id, "", seen, until="stage.rolling_out")
        await process.end(signal.SIGKILL)
        robot.ticks_to_done = 0
        await process.start()
        await _read(process, task_id, last_id, seen, until="task.succeeded")
    ids = [event_id for event_id, _ in seen]
    assert len(set(ids)) == len(ids)
    kinds = [kind for _, kind in seen if kind not in ("stage.tick", "video.progress")]
    assert kinds[:4] == ["task.queued", "task.planning", "task.waiting_for_robot", "task.running"]
    assert kinds.count("stage.rolling_out") == 2


async def _read(
    process: Process, task_id: str, last_id: str, seen: list[tuple[str, str]], *, until: str
) -> str:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    url = f"/tasks/{task_id}/events"
    async with (
        asyncio.timeout(40),
        process.client() as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        event_id = kind = ""
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                event_id = line[4:]
            elif line.startswith("event: "):
                kind = line[7:]
            elif not line and kind:
                seen.append((event_id, kind))
                if kind == until:
                    return event_id
                kind = ""
    raise AssertionError(f"the stream ended before {until}: {seen}")


def run_once(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gen2act_orchestrator"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GEN2ACT_HTTP_PORT": "many"}, "GEN2ACT_HTTP_PORT"),
        ({"GEN2ACT_LLM_MODEL": "tiny"}, "GEN2ACT_LLM_BASE_URL"),
        ({"GEN2ACT_REDIS_URL": "http://x"}, "GEN2ACT_REDIS_URL"),
    ],
)
def test_a_bad_configuration_is_one_line_and_exit_code_2(
    environment: dict[str, str], said: str
) -> None:
    finished = run_once(**environment)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr


async def test_a_taken_port_is_one_line_and_exit_code_2(process: Process) -> None:
    finished = await asyncio.to_thread(
        run_once,
        GEN2ACT_REDIS_URL=process.world.redis.url,
        GEN2ACT_HTTP_PORT=str(process.http_port),
        GEN2ACT_GATEWAY_PORT=str(free_port()),
    )
    assert finished.returncode == 2
    assert str(process.http_port) in finished.stderr
    assert "Traceback" not in finished.stderr
