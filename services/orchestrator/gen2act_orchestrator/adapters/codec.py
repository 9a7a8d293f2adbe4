"""Tasks, events and drivers as JSON in Redis."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from gen2act_contracts.errors import Internal
from gen2act_orchestrator.domain.events import Event
from gen2act_orchestrator.domain.task import Task
from gen2act_orchestrator.service.values import Driver


@dataclass(frozen=True)
class TaskRecord:
    """A task as written, with the id of the write that made it so."""

    task: Task
    write_id: str


@dataclass(frozen=True)
class IdempotencyRecord:
    fingerprint: str
    task_id: str


@dataclass(frozen=True)
class RobotEntry:
    driver: Driver
    last_attached_at: float  # [s, Unix]


TASK = TypeAdapter(TaskRecord)
EVENT = TypeAdapter(Event)
IDEMPOTENCY = TypeAdapter(IdempotencyRecord)
ROBOT = TypeAdapter(RobotEntry)


def read_task(raw: bytes | str) -> TaskRecord:
    """Raises Internal: the record was written by another version or damaged."""
    try:
        return TASK.validate_json(raw)
    except ValidationError as error:
        raise Internal(f"a stored task cannot be read: {error.error_count()} errors") from error
