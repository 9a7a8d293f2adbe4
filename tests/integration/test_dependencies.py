"""What running installs, followed through to the end."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement

RUNNING = {
    "gen2act-contracts": {"video"},
    "gen2act-servicekit": {"valkey"},
    "gen2act-videogen": {"demonstrator"},
    "gen2act-policy": {"cpu"},
    "gen2act-orchestrator": set(),
    "gen2act-robot": {"sim"},
    "gen2act-sim": set(),
    "gen2act-demo": set(),
}


def closure(name: str, extras: set[str]) -> set[str]:
    """Names of all distributions that `name[extras]` needs, itself included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, frozenset(extras))]
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        for text in metadata.requires(item[0]) or []:
            needed = Requirement(text)
            wanted = [{"extra": extra} for extra in item[1]] or [{"extra": ""}]
            if needed.marker is None or any(needed.marker.evaluate(env) for env in wanted):
                waiting.append((normal(needed.name), frozenset(needed.extras)))
    return {found for found, _ in seen}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("member", RUNNING)
def test_nothing_that_runs_needs_torch(member: str) -> None:
    needed = closure(member, RUNNING[member])
    assert len(needed) > 1
    assert "torch" not in needed


def test_a_robot_of_ones_own_needs_no_simulator_and_no_onnxruntime() -> None:
    needed = closure("gen2act-robot", set())
    assert not needed & {"mujoco", "metaworld", "onnxruntime", "torch", "gen2act-sim", "redis"}


def test_the_orchestrator_sees_no_tensors() -> None:
    needed = closure("gen2act-orchestrator", set())
    assert not needed & {"onnxruntime", "mujoco", "torch"}
