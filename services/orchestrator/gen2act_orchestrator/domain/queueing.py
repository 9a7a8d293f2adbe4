"""Which task a robot takes next."""

from __future__ import annotations

from collections.abc import Sequence

from gen2act_orchestrator.domain.task import Task, TaskStatus


def next_task(tasks: Sequence[Task], robot_id: str) -> Task | None:
    """The task a free robot is to take, or None to wait.

    First come, first served: a task whose plan is not ready yet holds up those behind it (planning
    is bounded); a paused one lets them pass. A task of this robot that is running although the
    robot is free was left behind by a crash and comes first.

    Args:
        tasks: the robot's queue and that of no robot in particular, in order of acceptance.
    """
    for task in tasks:
        mine = task.robot_id == robot_id
        if mine and task.status in (TaskStatus.RUNNING, TaskStatus.CANCELLING):
            return task
    for task in tasks:
        if task.robot_id not in (None, robot_id):
            continue
        if task.status is TaskStatus.WAITING_FOR_ROBOT:
            return task
        if task.status in (TaskStatus.QUEUED, TaskStatus.PLANNING):
            return None
    return None
