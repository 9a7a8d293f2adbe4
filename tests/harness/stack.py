"""The services as separate processes, each started from its line of the Procfile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from gen2act_contracts.video import encode_mp4
from gen2act_demo import ports as demo_ports
from gen2act_demo.api import Task
from gen2act_demo.ports import HOST, Ports
from gen2act_demo.processes import service_checks

ROOT = Path(__file__).parents[2]
SERVICES = ("redis", "videogen", "policy", "orchestrator")
READY_S = 60.0


@dataclass
class Stack:
    """A running system whose processes can be killed and started again, one by one."""

    folder: Path
    ports: Ports
    environment: Mapping[str, str]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # ---- processes ------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Starts one process, as compose would after a crash: same command, same settings."""
        commands = dict(
            line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line
        )
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["bash", "-c", commands[name]],
                cwd=ROOT,
                env={
                    **os.environ,
                    **self.ports.environment(self.folder / "data"),
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "PYTHONUNBUFFERED": "1",
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """kill -9 of the process and whatever it started; returns when it is gone."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ended(self, name: str, deadline_s: float = 30.0) -> int:
        """Exit status of a process that is expected to give up by itself."""
        return self._running.pop(name).wait(deadline_s)

    def stop_all(self) -> None:
        """Ends everything; those that do not drain in time are killed."""
        for process in self._running.values():
            process.terminate()
        for name in list(self._running):
            try:
                self._running[name].wait(10)
                self._running.pop(name)
            except subprocess.TimeoutExpired:
                self.kill(name)

    async def ready(self) -> None:
        """Returns when all services say so.

        Raises:
            AssertionError: with the end of the log of the one that does not.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_S
        for check in service_checks(self.ports):
            while missing := await asyncio.to_thread(check.ready):
                ended = self._running[check.name].poll() is not None
                if ended or loop.time() > deadline:
                    raise AssertionError(f"{check.name}: {missing}\n{self.log(check.name)}")
                await asyncio.sleep(0.05)

    def log(self, name: str) -> str:
        """The end of a process's output."""
        return "\n".join((self.folder / f"{name}.log").read_text().splitlines()[-30:])

    # ---- addresses ------------------------------------------------------------------------------

    @property
    def gateway(self) -> str:
        return f"{HOST}:{self.ports.gateway}"

    @property
    def policy(self) -> str:
        return f"{HOST}:{self.ports.policy}"

    # ---- HTTP -----------------------------------------------------------------------------------

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.ports.http_url, timeout=10.0, trust_env=False)

    async def upload_video(self) -> str:
        """A small recording of something moving; returns its id."""
        frames = np.full((16, 64, 64, 3), 60, np.uint8)
        for index, frame in enumerate(frames):
            frame[20:40, 3 * index : 3 * index + 16] = (220, 160, 120)
        async with self.client() as client:
            response = await client.post(
                "/videos",
                content=encode_mp4(frames, 8.0),
                headers={"Content-Type": "video/mp4"},
            )
        assert response.status_code == 201, response.text
        return str(response.json()["video_id"])

    async def submit(self, **body: Any) -> str:
        async with self.client() as client:
            response = await client.post("/tasks", json=body)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def task(self, task_id: str) -> Task:
        async with self.client() as client:
            response = await client.get(f"/tasks/{task_id}")
        assert response.is_success, response.text
        return Task.model_validate(response.json())

    async def until_over(self, task_id: str, deadline_s: float = 90.0) -> Task:
        """The task when it has ended; a service that is away meanwhile is waited for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        last: object = None
        while loop.time() < end:
            try:
                task = last = await self.task(task_id)
                if task.is_over:
                    return task
            except (httpx.TransportError, AssertionError) as error:
                last = error
            await asyncio.sleep(0.1)
        raise AssertionError(f"task stuck after {deadline_s:g} s: {last}")


@asynccontextmanager
async def running_stack(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Stack]:
    """All services, ready; gone when the block ends."""
    stack = Stack(folder, demo_ports.choose(), environment)
    try:
        for name in SERVICES:
            stack.start(name)
        await stack.ready()
        yield stack
    finally:
        stack.stop_all()
