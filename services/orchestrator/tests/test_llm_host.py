"""The language model planner against a host in another process, over real HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from pydantic import SecretStr

from gen2act_contracts.errors import PlannerUnavailable, PlanningFailed
from gen2act_orchestrator.adapters.planners import LlmPlanner, LlmSettings
from gen2act_orchestrator.testing.llm_host import KEY

if TYPE_CHECKING:
    from conftest import World

SAID = "open the drawer then place the apple in the drawer"
PLANNED = ["open the drawer", "place the apple in the drawer"]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Where a fresh host process listens."""
    command = [sys.executable, "-m", "gen2act_orchestrator.testing.llm_host"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        try:
            yield host.stdout.readline().strip()
        finally:
            host.kill()


async def plan(base_url: str, model: str, *, key: str = KEY, timeout_s: float = 30.0) -> list[str]:
    settings = LlmSettings(
        base_url, model, SecretStr(key), attempts=2, timeout_s=timeout_s, first_pause_s=0.001
    )
    async with httpx.AsyncClient() as client:
        return list(await LlmPlanner(client, settings).plan(SAID))


@pytest.mark.parametrize("model", ["good", "no-json", "off-schema"])
async def test_a_plan_comes_back_or_is_repaired(base_url: str, model: str) -> None:
    assert await plan(base_url, model) == PLANNED


async def test_a_busy_host_is_asked_again_when_it_said(base_url: str) -> None:
    assert await plan(base_url, "busy") == PLANNED


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("stubborn", "no valid plan in 2 attempts"),
        ("cut", "JSON"),
        ("refuses", "declined to plan this: I cannot help with that"),
    ],
)
async def test_what_never_becomes_a_plan_is_told(base_url: str, model: str, why: str) -> None:
    with pytest.raises(PlanningFailed, match=why):
        await plan(base_url, model)


@pytest.mark.parametrize(
    ("model", "key", "why"),
    [
        ("broken", KEY, "HTTP 500"),
        ("hangs-up", KEY, "cannot be reached"),
        ("unknown", KEY, "GEN2ACT_LLM_MODEL"),
        ("good", "sk-wrong", "GEN2ACT_LLM_API_KEY"),
    ],
)
async def test_a_host_that_does_not_serve_us_is_told(
    base_url: str, model: str, key: str, why: str
) -> None:
    with pytest.raises(PlannerUnavailable, match=why) as failed:
        await plan(base_url, model, key=key)
    assert key not in str(failed.value)


async def test_a_silent_host_is_given_up(base_url: str) -> None:
    with pytest.raises(PlannerUnavailable, match="TimeoutError"):
        await plan(base_url, "silent", timeout_s=0.2)


async def test_a_task_is_planned_by_the_model(world: World, base_url: str) -> None:
    settings = {"llm_base_url": base_url, "llm_model": "off-schema", "llm_api_key": KEY}
    async with world.replica(**settings) as replica:
        task_id = await replica.submit(SAID)
        task = await replica.until(task_id, "waiting_for_robot")
    assert [stage["task"] for stage in task["stages"]] == PLANNED


async def test_a_task_that_the_model_declines_fails_in_its_words(
    world: World, base_url: str
) -> None:
    settings = {"llm_base_url": base_url, "llm_model": "refuses", "llm_api_key": KEY}
    async with world.replica(**settings) as replica:
        task_id = await replica.submit(SAID)
        task = await replica.until(task_id, "failed")
    assert "I cannot help with that" in task["failure"]["message"]
