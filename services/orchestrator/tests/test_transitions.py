from __future__ import annotations

from dataclasses import replace

import pytest

from gen2act_contracts.errors import InvalidTransition
from gen2act_orchestrator.domain import transitions as t
from gen2act_orchestrator.domain.gate import EndReason
from gen2act_orchestrator.domain.stage import Failure, StageStatus, Verdict, Video
from gen2act_orchestrator.domain.task import Limits, Task, TaskStatus

LIMITS = Limits(max_restarts=2, robot_wait_s=60.0)
CAUSE = Failure("ROBOT_LOST", "the robot's connection broke")
VIDEO = Video("v", "A person …", "fake", "fake", 1, 16, 8.0, 224, 1.0, False)
LEASE = "lease-1"


def queued(**changes: object) -> Task:
    task = Task("task", 1, "open and close the drawer", 7, 60, 0.0, 0.0)
    return replace(task, **changes)  # type: ignore[arg-type]


def waiting(*stages: str, **changes: object) -> Task:
    task = t.begin_planning(queued(**changes), 1.0).task
    return t.planned(task, stages or ("open the drawer", "close the drawer"), 2.0).task


def running(*stages: str, **changes: object) -> Task:
    return t.claim(waiting(*stages, **changes), "r", LEASE, 3.0, LIMITS).task


def rolling(*stages: str) -> Task:
    task = t.begin_stage(running(*stages), LEASE, 4.0).task
    return roll_on(task)


def roll_on(task: Task) -> Task:
    task = t.scene_captured(task, LEASE, 5.0).task
    task = t.imagined(task, LEASE, VIDEO, 6.0).task
    return t.prepared(task, LEASE, "goal", 7.0).task


def end(task: Task, by: EndReason = EndReason.TERMINATE, limits: Limits = LIMITS) -> t.Change:
    return t.stage_ended(task, LEASE, by, 12, Verdict(False, True), 8.0, limits)


def test_a_task_is_queued_planned_and_waits_for_its_robot() -> None:
    task = waiting()
    assert task.status is TaskStatus.WAITING_FOR_ROBOT
    assert [stage.status for stage in task.stages] == [StageStatus.PENDING] * 2
    assert task.deadline is None  # a task that never ran waits as long as it takes


def test_stages_get_seeds_far_apart() -> None:
    seeds = [stage.seed for stage in waiting().stages]
    assert seeds[0] == 7
    assert abs(seeds[1] - seeds[0]) >= 1000


def test_one_video_is_for_all_stages_and_several_are_one_each() -> None:
    assert [s.source_video_id for s in waiting(videos=("a",)).stages] == ["a", "a"]
    assert [s.source_video_id for s in waiting(videos=("a", "b")).stages] == ["a", "b"]
    assert [s.source_video_id for s in waiting().stages] == ["", ""]


def test_a_stage_goes_through_all_its_states() -> None:
    task = rolling()
    stage = task.stages[0]
    assert stage.status is StageStatus.ROLLING_OUT
    assert stage.attempts == 1
    assert stage.video == VIDEO
    assert stage.goal_id == "goal"
    assert list(stage.entered) == ["resetting", "imagining", "preparing", "rolling_out"]


def test_states_cannot_be_skipped() -> None:
    task = t.begin_stage(running(), LEASE, 4.0).task
    with pytest.raises(InvalidTransition):
        t.prepared(task, LEASE, "goal", 5.0)
    with pytest.raises(InvalidTransition):
        t.begin_stage(task, LEASE, 5.0)


def test_the_last_stage_ends_the_task() -> None:
    first = end(rolling())
    assert first.task.status is TaskStatus.RUNNING
    assert first.task.current is first.task.stages[1]
    second = end(roll_on(t.begin_stage(first.task, LEASE, 9.0).task))
    assert second.task.status is TaskStatus.SUCCEEDED
    assert [event.type for event in second.events] == ["stage.done", "task.succeeded"]
    assert second.task.lease_id == ""


def test_the_verdict_is_recorded_and_decides_nothing() -> None:
    change = end(rolling("open the drawer"))
    assert change.task.stages[0].verdict == Verdict(False, True)
    assert change.task.status is TaskStatus.SUCCEEDED


def test_the_tick_budget_fails_the_task() -> None:
    task = end(rolling(), EndReason.TICK_BUDGET).task
    assert task.status is TaskStatus.FAILED
    assert task.failure == Failure("TICK_BUDGET", "stage ended by its tick budget")
    assert task.stages[0].status is StageStatus.FAILED
    assert task.stages[0].ended_by is EndReason.TICK_BUDGET
    assert task.stages[0].verdict == Verdict(False, True)
    assert task.stages[1].status is StageStatus.PENDING


def test_the_tick_budget_may_fail_the_task_at_its_end_only() -> None:
    later = replace(LIMITS, budget_fails_task=False)
    task = end(rolling(), EndReason.TICK_BUDGET, later).task
    assert task.status is TaskStatus.RUNNING
    task = end(roll_on(t.begin_stage(task, LEASE, 9.0).task), EndReason.TERMINATE, later).task
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None and task.failure.code == "TICK_BUDGET"


def test_only_the_lease_that_runs_a_task_advances_it() -> None:
    with pytest.raises(InvalidTransition):
        t.begin_stage(running(), "another lease", 4.0)


def test_a_task_is_not_run_by_a_robot_it_does_not_belong_to() -> None:
    with pytest.raises(InvalidTransition, match="belongs to 'mine'"):
        t.claim(waiting(robot_id="mine"), "other", LEASE, 3.0, LIMITS)


def test_a_task_of_no_robot_belongs_to_the_one_that_claims_it() -> None:
    assert running().robot_id == "r"


def test_a_lost_robot_sends_the_stage_back_to_its_boundary_for_a_bounded_time() -> None:
    change = t.interrupt(rolling(), CAUSE, 100.0, LIMITS)
    assert change.task.status is TaskStatus.WAITING_FOR_ROBOT
    assert change.task.deadline == 160.0
    assert change.task.stages[0].status is StageStatus.PENDING
    assert change.events[0].data["code"] == "ROBOT_LOST"


def test_a_restarted_stage_forgets_its_last_attempt() -> None:
    task = t.interrupt(rolling(), CAUSE, 100.0, LIMITS).task
    task = t.claim(task, "r", LEASE, 101.0, LIMITS).task
    assert task.deadline is None
    old_id = task.stages[0].attempt_id
    stage = t.begin_stage(task, LEASE, 102.0).task.stages[0]
    assert stage.attempts == 2
    assert stage.video is None and stage.goal_id == ""
    assert stage.attempt_id != old_id


def test_stages_done_are_not_done_again_after_an_interruption() -> None:
    task = t.begin_stage(end(rolling()).task, LEASE, 9.0).task
    task = t.interrupt(task, CAUSE, 10.0, LIMITS).task
    assert [s.status for s in task.stages] == [StageStatus.DONE, StageStatus.PENDING]


def test_a_robot_that_does_not_come_back_fails_the_task_with_the_reason() -> None:
    task = t.interrupt(rolling(), CAUSE, 100.0, LIMITS).task
    with pytest.raises(InvalidTransition):
        t.robot_missed(task, 159.0)
    task = t.robot_missed(task, 161.0).task
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert task.failure.code == "ROBOT_LOST"
    assert "connection broke" in task.failure.message
    assert task.stages[0].status is StageStatus.FAILED


def test_a_task_that_never_ran_does_not_miss_its_robot() -> None:
    with pytest.raises(InvalidTransition):
        t.robot_missed(waiting(), 1e9)


def test_a_stage_is_begun_again_a_bounded_number_of_times() -> None:
    task = rolling()
    for attempt in (2, 3):
        task = t.restart_stage(task, LEASE, CAUSE, 10.0, LIMITS).task
        task = roll_on(t.begin_stage(task, LEASE, 11.0).task)
        assert task.stages[0].attempts == attempt
    worn_out = t.restart_stage(task, LEASE, CAUSE, 12.0, LIMITS)
    assert worn_out.task.status is TaskStatus.FAILED
    assert worn_out.task.failure is not None
    assert "3 times" in worn_out.task.failure.message
    assert t.interrupt(task, CAUSE, 12.0, LIMITS).task.status is TaskStatus.FAILED


def test_a_running_task_left_behind_begins_its_stage_again_under_the_new_lease() -> None:
    task = t.claim(rolling(), "r", "lease-2", 50.0, LIMITS).task
    assert task.status is TaskStatus.RUNNING
    assert task.lease_id == "lease-2"
    assert task.stages[0].status is StageStatus.PENDING
    with pytest.raises(InvalidTransition):  # whoever ran it before is out
        t.begin_stage(task, LEASE, 51.0)


def test_a_running_task_left_behind_too_often_fails() -> None:
    task = rolling()
    for lease in ("2", "3"):
        task = t.claim(task, "r", lease, 50.0, LIMITS).task
        task = t.begin_stage(task, lease, 51.0).task
    assert t.claim(task, "r", "4", 52.0, LIMITS).task.status is TaskStatus.FAILED


@pytest.mark.parametrize(
    "task", [queued(), t.begin_planning(queued(), 1.0).task, waiting(), rolling()]
)
def test_pause_and_resume_lead_back_to_where_it_was(task: Task) -> None:
    paused = t.pause(task, 10.0).task
    assert paused.status is TaskStatus.PAUSED
    assert t.pause(paused, 11.0).task is paused
    assert t.resume(paused, 12.0, LIMITS).task.status is task.status


def test_a_paused_stage_may_finish_what_does_not_move_the_robot() -> None:
    task = t.pause(t.begin_stage(running(), LEASE, 4.0).task, 5.0).task
    task = t.scene_captured(task, LEASE, 6.0).task
    assert task.status is TaskStatus.PAUSED
    assert task.stages[0].status is StageStatus.IMAGINING


def test_a_plan_that_arrives_during_a_pause_is_kept() -> None:
    task = t.pause(t.begin_planning(queued(), 1.0).task, 2.0).task
    task = t.planned(task, ["open the drawer"], 3.0).task
    assert task.status is TaskStatus.PAUSED
    resumed = t.resume(task, 4.0, LIMITS).task
    assert resumed.status is TaskStatus.WAITING_FOR_ROBOT
    assert resumed.deadline is None


def test_losing_the_robot_during_a_pause_does_not_start_the_clock_before_resume() -> None:
    task = t.interrupt(t.pause(rolling(), 5.0).task, CAUSE, 10.0, LIMITS).task
    assert task.status is TaskStatus.PAUSED
    assert task.deadline is None
    task = t.resume(task, 1000.0, LIMITS).task
    assert task.status is TaskStatus.WAITING_FOR_ROBOT
    assert task.deadline == 1060.0


@pytest.mark.parametrize("task", [queued(), waiting(), t.pause(waiting(), 3.0).task])
def test_cancelling_a_task_no_robot_works_on_is_immediate(task: Task) -> None:
    assert t.request_cancel(task, 5.0).task.status is TaskStatus.CANCELLED


@pytest.mark.parametrize("task", [rolling(), t.pause(rolling(), 8.0).task])
def test_cancelling_a_running_task_waits_for_the_robot_to_rest(task: Task) -> None:
    asked = t.request_cancel(task, 9.0).task
    assert asked.status is TaskStatus.CANCELLING
    assert t.request_cancel(asked, 9.5).task is asked
    done = t.cancelled(asked, 10.0).task
    assert done.status is TaskStatus.CANCELLED
    assert [stage.status for stage in done.stages] == [StageStatus.CANCELLED] * 2
    assert [stage.ended_by for stage in done.stages] == [EndReason.CANCELLED, None]


def test_losing_the_robot_while_cancelling_cancels() -> None:
    task = t.request_cancel(rolling(), 9.0).task
    assert t.interrupt(task, CAUSE, 10.0, LIMITS).task.status is TaskStatus.CANCELLED


def test_nothing_happens_to_a_task_that_is_over() -> None:
    over = end(rolling("open the drawer")).task
    for move in (
        lambda: t.pause(over, 9.0),
        lambda: t.resume(over, 9.0, LIMITS),
        lambda: t.request_cancel(over, 9.0),
        lambda: t.cancelled(over, 9.0),
        lambda: t.fail(over, CAUSE, 9.0),
        lambda: t.claim(over, "r", LEASE, 9.0, LIMITS),
        lambda: t.interrupt(over, CAUSE, 9.0, LIMITS),
        lambda: t.begin_planning(over, 9.0),
        lambda: t.planned(over, ["x"], 9.0),
    ):
        with pytest.raises(InvalidTransition):
            move()


def test_failing_a_task_fails_the_stage_that_was_begun() -> None:
    change = t.fail(rolling(), CAUSE, 9.0, EndReason.STOPPED)
    assert [event.type for event in change.events] == ["stage.failed", "task.failed"]
    assert [s.status for s in change.task.stages] == [StageStatus.FAILED, StageStatus.PENDING]
    assert change.task.stages[0].ended_by is EndReason.STOPPED


def test_a_task_that_fails_in_planning_has_no_stage() -> None:
    change = t.fail(t.begin_planning(queued(), 1.0).task, CAUSE, 2.0)
    assert [event.type for event in change.events] == ["task.failed"]
    assert change.events[0].data["message"] == CAUSE.message
