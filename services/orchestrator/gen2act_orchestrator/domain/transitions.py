"""Every transition of a task, as pure functions: task in, `Change` out.

    queued → planning → waiting_for_robot → running → succeeded | failed
                              ▲    │           │
                              └────┴ robot lost┘
    any of the first four ⇄ paused;   any → cancelling (while a robot is underway) → cancelled

All raise InvalidTransition when the task is in no state for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gen2act_contracts.errors import InvalidTransition
from gen2act_orchestrator.domain.gate import EndReason
from gen2act_orchestrator.domain.stage import ENDED, Failure, Stage, StageStatus, Verdict, Video
from gen2act_orchestrator.domain.task import (
    Change,
    Limits,
    Task,
    TaskStatus,
    stage_event,
    task_event,
)

BUDGET = Failure("TICK_BUDGET", "stage ended by its tick budget")


def _move(task: Task, status: TaskStatus, now: float, **changes: object) -> Change:
    moved = replace(task, status=status, updated_at=now, **changes)  # type: ignore[arg-type]
    return Change(moved, (task_event(moved, now),))


def _refuse(task: Task, wanted: str) -> InvalidTransition:
    return InvalidTransition(f"task {task.id} is {task.status.value}; it cannot {wanted}")


def _with_stage(task: Task, stage: Stage) -> Task:
    stages = (*task.stages[: stage.index], stage, *task.stages[stage.index + 1 :])
    return replace(task, stages=stages)


def accepted(task: Task) -> Change:
    """The first event of a task."""
    return Change(task, (task_event(task, task.created_at),))


def begin_planning(task: Task, now: float) -> Change:
    """queued → planning. Again while planning: a planner that died is replaced."""
    if task.status is TaskStatus.PLANNING:
        return Change(task)
    if task.status is not TaskStatus.QUEUED:
        raise _refuse(task, "be planned")
    return _move(task, TaskStatus.PLANNING, now)


def _video_of(task: Task, index: int) -> str:
    if len(task.videos) == 1:  # one recording that shows every stage's motion
        return task.videos[0]
    return task.videos[index] if task.videos else ""


def planned(task: Task, stage_tasks: Sequence[str], now: float) -> Change:
    """planning → waiting_for_robot, with its stages. A task paused meanwhile stays paused."""
    paused = task.status is TaskStatus.PAUSED and not task.stages
    if task.status is not TaskStatus.PLANNING and not paused:
        raise _refuse(task, "take a plan")
    stages = tuple(
        Stage(
            id=f"{task.id}.{index}",
            index=index,
            task=stage_task,
            # far apart, so that the retries of one stage never meet the seeds of the next
            seed=(task.seed + 1000 * index) % 2**63,
            source_video_id=_video_of(task, index),
        )
        for index, stage_task in enumerate(stage_tasks)
    )
    if paused:
        return _move(
            task, TaskStatus.PAUSED, now, stages=stages, paused_from=TaskStatus.WAITING_FOR_ROBOT
        )
    return _move(task, TaskStatus.WAITING_FOR_ROBOT, now, stages=stages)


def fail(task: Task, failure: Failure, now: float, ended_by: EndReason | None = None) -> Change:
    """Any state that is not terminal → failed; the stage begun, if any, fails with it."""
    if task.is_over:
        raise _refuse(task, "fail")
    events = []
    stage = task.current
    if stage is not None and stage.was_begun:
        stage = stage.end(StageStatus.FAILED, now, ended_by=ended_by, failure=failure)
        task = _with_stage(task, stage)
        events.append(stage_event(stage, now))
    change = _move(
        task, TaskStatus.FAILED, now, failure=failure, lease_id="", deadline=None, paused_from=None
    )
    return Change(change.task, (*events, *change.events))


def claim(task: Task, robot_id: str, lease_id: str, now: float, limits: Limits) -> Change:
    """waiting_for_robot → running, by the robot attached under `lease_id`.

    A task that is already running was left behind (its orchestrator or its robot died): its stage
    goes back to its boundary, or the task fails when that has happened too often.
    """
    if task.robot_id not in (None, robot_id):
        raise _refuse(task, f"be run by {robot_id!r}, it belongs to {task.robot_id!r}")
    if task.status is TaskStatus.RUNNING:
        left = Failure("INTERRUPTED", "the orchestrator or the robot went away during the stage")
        change = restart_stage(task, task.lease_id, left, now, limits)
        if change.task.is_over:
            return change
        return Change(replace(change.task, lease_id=lease_id), change.events)
    if task.status is not TaskStatus.WAITING_FOR_ROBOT:
        raise _refuse(task, "start")
    return _move(task, TaskStatus.RUNNING, now, robot_id=robot_id, lease_id=lease_id, deadline=None)


def _run_by(task: Task, lease_id: str) -> Stage:
    """The stage underway, if it is `lease_id` that runs the task."""
    running = task.status is TaskStatus.RUNNING or (
        task.status is TaskStatus.PAUSED and task.paused_from is TaskStatus.RUNNING
    )
    if not running or task.lease_id != lease_id or task.current is None:
        raise _refuse(task, "go on with its stage here")
    return task.current


def _advance(task: Task, stage: Stage, now: float) -> Change:
    moved = replace(_with_stage(task, stage), updated_at=now)
    return Change(moved, (stage_event(stage, now),))


def begin_stage(task: Task, lease_id: str, now: float) -> Change:
    """The next stage: pending → resetting."""
    return _advance(task, _run_by(task, lease_id).enter(StageStatus.RESETTING, now), now)


def scene_captured(task: Task, lease_id: str, now: float) -> Change:
    """resetting → imagining."""
    return _advance(task, _run_by(task, lease_id).enter(StageStatus.IMAGINING, now), now)


def imagined(task: Task, lease_id: str, video: Video, now: float) -> Change:
    """imagining → preparing."""
    stage = _run_by(task, lease_id).enter(StageStatus.PREPARING, now)
    return _advance(task, replace(stage, video=video), now)


def prepared(task: Task, lease_id: str, goal_id: str, now: float) -> Change:
    """preparing → rolling_out."""
    stage = _run_by(task, lease_id).enter(StageStatus.ROLLING_OUT, now)
    return _advance(task, replace(stage, goal_id=goal_id), now)


def stage_ended(
    task: Task,
    lease_id: str,
    ended_by: EndReason,
    ticks: int,
    verdict: Verdict | None,
    now: float,
    limits: Limits,
) -> Change:
    """rolling_out → done by `terminate` or by the tick budget; the last one ends the task.

    The verdict is recorded and decides nothing.
    """
    stage = _run_by(task, lease_id)
    stage = replace(stage, ended_by=ended_by, ticks=ticks, verdict=verdict, failure=None)
    if ended_by is EndReason.TICK_BUDGET and limits.budget_fails_task:
        return fail(_with_stage(task, stage), BUDGET, now, ended_by)
    done = _advance(task, stage.enter(StageStatus.DONE, now), now)
    if done.task.current is not None:
        return done
    over_budget = any(s.ended_by is EndReason.TICK_BUDGET for s in done.task.stages)
    last = _move(
        done.task,
        TaskStatus.FAILED if over_budget else TaskStatus.SUCCEEDED,
        now,
        failure=BUDGET if over_budget else None,
        lease_id="",
        deadline=None,
        paused_from=None,
    )
    return Change(last.task, (*done.events, *last.events))


def restart_stage(task: Task, lease_id: str, cause: Failure, now: float, limits: Limits) -> Change:
    """The stage underway back to its boundary; the task fails after too many restarts."""
    stage = _run_by(task, lease_id)
    if stage.status is StageStatus.PENDING:
        return Change(replace(task, updated_at=now))
    if stage.attempts > limits.max_restarts:
        return fail(task, _worn_out(stage, cause), now)
    stage = stage.back_to_boundary(cause)
    change = _advance(task, stage, now)
    data = {**change.events[0].data, "code": cause.code, "message": cause.message}
    return Change(change.task, (replace(change.events[0], type="stage.restarted", data=data),))


def _worn_out(stage: Stage, cause: Failure) -> Failure:
    return Failure(
        cause.code,
        f"stage {stage.index} ({stage.task!r}) was begun {stage.attempts} times; "
        f"the last time: {cause.message}",
    )


def interrupt(task: Task, cause: Failure, now: float, limits: Limits) -> Change:
    """The robot (or whoever ran the task) is gone: back to waiting, for a bounded time."""
    if task.status is TaskStatus.CANCELLING:
        return cancelled(task, now)
    stage = _run_by(task, task.lease_id)
    if stage.attempts > limits.max_restarts:
        return fail(task, _worn_out(stage, cause), now)
    if stage.status is not StageStatus.PENDING:
        task = _with_stage(task, stage.back_to_boundary(cause))
    if task.status is TaskStatus.PAUSED:  # waits for the person first, then for the robot
        return _move(
            task, TaskStatus.PAUSED, now, paused_from=TaskStatus.WAITING_FOR_ROBOT, lease_id=""
        )
    change = _move(
        task, TaskStatus.WAITING_FOR_ROBOT, now, lease_id="", deadline=now + limits.robot_wait_s
    )
    told = change.events[0]
    return Change(
        change.task,
        (replace(told, data={**told.data, "code": cause.code, "message": cause.message}),),
    )


def robot_missed(task: Task, now: float) -> Change:
    """waiting_for_robot, past its deadline → failed."""
    if task.status is not TaskStatus.WAITING_FOR_ROBOT or task.deadline is None:
        raise _refuse(task, "miss its robot")
    if now < task.deadline:
        raise _refuse(task, f"miss its robot before {task.deadline:.0f}")
    stage = task.current
    cause = stage.failure.message if stage is not None and stage.failure is not None else "lost"
    message = f"robot {task.robot_id!r} did not come back in time ({cause})"
    return fail(task, Failure("ROBOT_LOST", message), now)


def pause(task: Task, now: float) -> Change:
    """Any of queued, planning, waiting_for_robot, running → paused. Pausing twice is no error."""
    if task.status is TaskStatus.PAUSED:
        return Change(task)
    if task.is_over or task.status is TaskStatus.CANCELLING:
        raise _refuse(task, "be paused")
    return _move(task, TaskStatus.PAUSED, now, paused_from=task.status, deadline=None)


def resume(task: Task, now: float, limits: Limits) -> Change:
    """paused → where it was. Resuming a task that is not paused is no error while it lives."""
    if task.is_over or task.status is TaskStatus.CANCELLING:
        raise _refuse(task, "be resumed")
    if task.status is not TaskStatus.PAUSED or task.paused_from is None:
        return Change(task)
    begun = any(stage.was_begun for stage in task.stages)
    waits = task.paused_from is TaskStatus.WAITING_FOR_ROBOT and begun
    deadline = now + limits.robot_wait_s if waits else None
    return _move(task, task.paused_from, now, paused_from=None, deadline=deadline)


def request_cancel(task: Task, now: float) -> Change:
    """→ cancelled, or → cancelling while a robot is underway. Asking twice is no error."""
    if task.status in (TaskStatus.CANCELLING, TaskStatus.CANCELLED):
        return Change(task)
    if task.is_over:
        raise _refuse(task, "be cancelled")
    if task.is_underway:
        return _move(task, TaskStatus.CANCELLING, now, paused_from=None)
    return cancelled(task, now)


def cancelled(task: Task, now: float) -> Change:
    """Any state that is not terminal → cancelled, with every stage that has not ended."""
    if task.is_over:
        raise _refuse(task, "be cancelled")
    events = []
    for stage in task.stages:
        if stage.status in ENDED:
            continue
        reason = EndReason.CANCELLED if stage.was_begun else None
        stage = stage.end(StageStatus.CANCELLED, now, ended_by=reason)
        task = _with_stage(task, stage)
        if stage.was_begun:
            events.append(stage_event(stage, now))
    change = _move(task, TaskStatus.CANCELLED, now, lease_id="", deadline=None, paused_from=None)
    return Change(change.task, (*events, *change.events))
