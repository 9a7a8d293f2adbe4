"""The orchestrator's HTTP API, as a user's program would call it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, SSEError, connect_sse
from pydantic import BaseModel, ConfigDict, Field

from gen2act_demo.processes import Check

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
ARTEFACTS = ("human.mp4", "rollout.mp4", "first.jpg", "last.jpg")


class _View(BaseModel):
    """Read what is needed; whatever else the API says is its own business."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Failure(_View):
    code: str
    message: str


class Verdict(_View):
    success: bool
    success_once: bool


class Video(_View):
    prompt: str
    backend: str
    seconds: float


class Stage(_View):
    index: int
    task: str
    status: str
    attempts: int = 0
    ticks: int = 0
    ended_by: str | None = None
    video: Video | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None

    @property
    def succeeded(self) -> bool:
        """The simulator says so, at the end of the stage."""
        return self.verdict is not None and self.verdict.success


class Task(_View):
    id: str
    instruction: str
    status: str
    robot_id: str | None = None
    stages: list[Stage] = Field(default_factory=list)
    failure: Failure | None = None

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def every_stage_succeeded(self) -> bool:
        """The task succeeded and the simulator agrees about each of its stages."""
        return (
            self.status == "succeeded"
            and bool(self.stages)
            and all(stage.succeeded for stage in self.stages)
        )


class Refused(Exception):
    """The API answered with a problem; the message is what it says."""


class Api:
    """Blocking client; every call has a deadline."""

    def __init__(self, base_url: str) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=10.0, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def submit(self, instruction: str, robot_id: str, **options: Any) -> str:
        """Posts a task; returns its id.

        Raises:
            Refused: with the problem's title and detail.
        """
        response = self._client.post(
            "/tasks",
            json={"instruction": instruction, "robot_id": robot_id, **options},
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )
        return str(_checked(response).json()["id"])

    def task(self, task_id: str) -> Task:
        return Task.model_validate(_checked(self._client.get(f"/tasks/{task_id}")).json())

    def cancel(self, task_id: str) -> None:
        _checked(self._client.post(f"/tasks/{task_id}/cancel"))

    def artefact(self, task_id: str, stage: int, name: str) -> bytes | None:
        """A stage's file, or None if the stage never came so far."""
        response = self._client.get(f"/tasks/{task_id}/stages/{stage}/{name}")
        return None if response.status_code == 404 else _checked(response).content

    def robot_attached(self, robot_id: str) -> Check:
        def ready() -> str:
            try:
                robots = _checked(self._client.get("/robots")).json()["robots"]
            except (httpx.HTTPError, Refused) as error:
                return str(error) or type(error).__name__
            attached = any(r["id"] == robot_id and r["attached"] for r in robots)
            return "" if attached else f"robot {robot_id!r} is not attached"

        return Check("robot", ready)

    def events(self, task_id: str, *, timeout_s: float) -> Iterator[ServerSentEvent]:
        """The task's events from its first to its last; resumes where a connection broke.

        Raises:
            TimeoutError: the task is not over after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        last_id = ""
        while time.monotonic() < deadline:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with connect_sse(
                    self._client,
                    "GET",
                    f"/tasks/{task_id}/events",
                    headers=headers,
                    timeout=httpx.Timeout(10.0, read=30.0),
                ) as source:
                    for event in source.iter_sse():
                        last_id = event.id or last_id
                        yield event
                        if event.event.removeprefix("task.") in TERMINAL:
                            return
                        if time.monotonic() > deadline:
                            break
            except (httpx.TransportError, SSEError):
                if self.task(task_id).is_over:
                    return
            time.sleep(0.2)
        raise TimeoutError(f"task {task_id} is not over after {timeout_s:.0f} s")


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
        said = f"{problem.get('title', '')}: {problem.get('detail', '')}"
    except ValueError:
        said = response.text[:300]
    raise Refused(
        f"{response.request.method} {response.request.url} → {response.status_code} {said}"
    )
