from __future__ import annotations

from gen2act_orchestrator.domain.queueing import next_task
from gen2act_orchestrator.domain.task import Task, TaskStatus


def task(name: str, status: TaskStatus, robot_id: str | None = "r") -> Task:
    return Task(name, 0, "open the drawer", 0, 60, 0.0, 0.0, robot_id=robot_id, status=status)


def test_first_come_first_served() -> None:
    tasks = [task("a", TaskStatus.WAITING_FOR_ROBOT), task("b", TaskStatus.WAITING_FOR_ROBOT)]
    assert next_task(tasks, "r") is tasks[0]


def test_a_task_for_any_robot_takes_its_turn() -> None:
    tasks = [
        task("a", TaskStatus.WAITING_FOR_ROBOT, robot_id=None),
        task("b", TaskStatus.WAITING_FOR_ROBOT),
    ]
    assert next_task(tasks, "r") is tasks[0]


def test_a_task_being_planned_holds_up_those_behind_it() -> None:
    tasks = [task("a", TaskStatus.PLANNING), task("b", TaskStatus.WAITING_FOR_ROBOT)]
    assert next_task(tasks, "r") is None


def test_a_paused_task_lets_others_pass() -> None:
    tasks = [task("a", TaskStatus.PAUSED), task("b", TaskStatus.WAITING_FOR_ROBOT)]
    assert next_task(tasks, "r") is tasks[1]


def test_a_task_left_behind_comes_first() -> None:
    tasks = [task("a", TaskStatus.WAITING_FOR_ROBOT), task("b", TaskStatus.RUNNING)]
    assert next_task(tasks, "r") is tasks[1]


def test_an_empty_queue_has_no_next() -> None:
    assert next_task([], "r") is None
