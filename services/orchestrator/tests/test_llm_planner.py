from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
import structlog
from pydantic import SecretStr

from gen2act_contracts.errors import Gen2ActError, PlannerUnavailable, PlanningFailed
from gen2act_orchestrator.adapters.planners import LlmPlanner, LlmSettings

KEY = "sk-very-secret"


def completion(content: object) -> httpx.Response:
    text = content if isinstance(content, str) else json.dumps(content)
    return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})


class Host:
    """An OpenAI-compatible host that answers as told, one answer per request."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def body(self, number: int) -> dict[str, object]:
        return dict(json.loads(self.requests[number].content))


async def plan(host: Callable[[httpx.Request], httpx.Response], said: str = "tidy up") -> list[str]:
    settings = LlmSettings("http://llm/v1/", "tiny", SecretStr(KEY), first_pause_s=0.001)
    async with httpx.AsyncClient(transport=httpx.MockTransport(host)) as client:
        return list(await LlmPlanner(client, settings).plan(said))


async def test_the_plan_of_the_model_is_taken() -> None:
    host = Host(completion({"steps": ["Open the drawer.", "close the drawer"]}))
    assert await plan(host) == ["Open the drawer", "close the drawer"]
    request = host.requests[0]
    assert str(request.url) == "http://llm/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    body = host.body(0)
    assert body["temperature"] == 0
    assert body["response_format"]["type"] == "json_schema"  # type: ignore[index]
    assert body["messages"][-1] == {"role": "user", "content": "tidy up"}  # type: ignore[index]


async def test_known_activities_do_not_ask_the_model() -> None:
    assert len(await plan(Host(), "make coffee")) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        "I would open the drawer first.",
        {"steps": []},
        {"steps": ["open the drawer"] * 13},
        {"steps": [1, 2]},
        {"plan": ["open the drawer"]},
        {"steps": ["x" * 300]},
        {"steps": ["..."]},
    ],
)
async def test_a_wrong_answer_is_sent_back_with_what_is_wrong(wrong: object) -> None:
    host = Host(completion(wrong), completion({"steps": ["open the drawer"]}))
    assert await plan(host) == ["open the drawer"]
    messages = host.body(1)["messages"]
    assert [m["role"] for m in messages][-2:] == ["assistant", "user"]  # type: ignore[attr-defined]
    assert "not valid" in messages[-1]["content"]  # type: ignore[index]


async def test_wrong_answers_end_in_a_clear_error() -> None:
    host = Host(*[completion("no")] * 3)
    with pytest.raises(PlanningFailed, match="'tiny' gave no valid plan in 3 attempts"):
        await plan(host)
    assert len(host.requests) == 3


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"choices": []}', b"[]", b'{"choices":[{"message":{"content":null}}]}']
)
async def test_what_is_no_completion_counts_as_a_wrong_answer(body: bytes) -> None:
    host = Host(httpx.Response(200, content=body), completion({"steps": ["open the drawer"]}))
    assert await plan(host) == ["open the drawer"]


async def test_an_endless_answer_is_cut() -> None:
    host = Host(*[httpx.Response(200, content=b" " * 100_000)] * 3)
    with pytest.raises(PlanningFailed, match="longer than"):
        await plan(host)


@pytest.mark.parametrize(
    "hiccup", [httpx.Response(503), httpx.Response(429), httpx.ConnectError("refused")]
)
async def test_hiccups_of_the_host_are_retried(hiccup: httpx.Response | Exception) -> None:
    assert await plan(Host(hiccup, completion({"steps": ["open the drawer"]})))


async def test_a_host_that_stays_away_ends_in_a_clear_error() -> None:
    host = Host(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(PlannerUnavailable, match="GEN2ACT_LLM_BASE_URL"):
        await plan(host)


@pytest.mark.parametrize(("status", "name"), [(401, "API_KEY"), (403, "API_KEY"), (404, "MODEL")])
async def test_a_refusal_names_the_setting_and_is_not_repeated(status: int, name: str) -> None:
    host = Host(httpx.Response(status, json={"error": f"Incorrect API key provided: {KEY}"}))
    with pytest.raises(PlannerUnavailable, match=name):
        await plan(host)
    assert len(host.requests) == 1


@pytest.mark.parametrize("answer", [httpx.Response(401, text=KEY), completion("nonsense")])
async def test_the_key_is_in_no_error_and_no_log(answer: httpx.Response) -> None:
    with structlog.testing.capture_logs() as logged, pytest.raises(Gen2ActError) as failed:
        await plan(Host(*[answer] * 3))
    assert KEY not in repr(failed.value) + repr(logged) + repr(LlmSettings("", "", SecretStr(KEY)))


@pytest.mark.parametrize("asked", ["Wed, 21 Oct 2026 07:28:00 GMT", "nan", "-3"])
async def test_a_pause_that_cannot_be_read_is_not_waited_for(asked: str) -> None:
    busy = httpx.Response(429, headers={"Retry-After": asked})
    assert await plan(Host(busy, completion({"steps": ["open the drawer"]})))


async def test_a_pause_longer_than_our_patience_ends_in_a_clear_error() -> None:
    host = Host(httpx.Response(429, headers={"Retry-After": "3600"}))
    with pytest.raises(PlannerUnavailable, match="left alone for 3600 s"):
        await plan(host)
