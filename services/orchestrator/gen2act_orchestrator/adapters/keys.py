"""Names of the Redis keys that only the orchestrator uses.

gen2act:task:<id>            JSON    the task
gen2act:task:<id>:events     stream  what happened to it
gen2act:tasks                zset    all tasks by sequence, for listing
gen2act:tasks:live           set     those that are not over
gen2act:tasks:sequence       int     last sequence number given
gen2act:queue:<robot>        zset    live tasks of a robot by sequence
gen2act:queue                zset    live tasks of no robot in particular
gen2act:idempotency:<sha>    JSON    task made under a client's key
gen2act:lease:<robot>        JSON    who is attached
gen2act:robots               hash    what every robot said of itself
gen2act:robots:stopped       hash    robots stopped by a person, with the reason
gen2act:artefact:<task>:<n>:first|last|frames   JPEG, JPEG, list of JPEG
"""

from __future__ import annotations

import hashlib

TASKS = "gen2act:tasks"
LIVE = "gen2act:tasks:live"
SEQUENCE = "gen2act:tasks:sequence"
ROBOTS = "gen2act:robots"
STOPPED = "gen2act:robots:stopped"


def task(task_id: str) -> str:
    return f"gen2act:task:{task_id}"


def events(task_id: str) -> str:
    return f"gen2act:task:{task_id}:events"


def queue(robot_id: str | None) -> str:
    return "gen2act:queue" if robot_id is None else f"gen2act:queue:{robot_id}"


def idempotency(key: str) -> str:
    return f"gen2act:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"


def lease(robot_id: str) -> str:
    return f"gen2act:lease:{robot_id}"


def artefact(task_id: str, stage: int, name: str) -> str:
    return f"gen2act:artefact:{task_id}:{stage}:{name}"
