"""The simulator must recognise what the planner says; skipped where it is not installed."""

from __future__ import annotations

import pytest

from gen2act_orchestrator.domain.clauses import plan_offline


def test_every_activity_of_the_simulator_is_planned_into_its_own_tasks() -> None:
    sim = pytest.importorskip("gen2act_sim")
    for activity, tasks in sim.ACTIVITIES.items():
        planned = [sim.match_task(stage).id for stage in plan_offline(activity)]
        assert planned == list(tasks), activity
