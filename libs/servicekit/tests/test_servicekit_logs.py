import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gen2act_servicekit import logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_carries_service_level_time_and_ids(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("policy", "info", "json")
    log = logs.get("x")

    with logs.bound(task_id="t1", stage_id="s1"):
        log.info("goal_ready", seconds=1.5)
    log.info("after")

    first, second = lines(capsys)
    assert first.pop("timestamp")
    assert first == {
        "service": "policy",
        "level": "info",
        "event": "goal_ready",
        "seconds": 1.5,
        "task_id": "t1",
        "stage_id": "s1",
    }
    assert "task_id" not in second


async def test_ids_of_one_asyncio_task_stay_out_of_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("policy", "info", "json")

    async def work(session: str) -> None:
        logs.bind(session_id=session)
        await asyncio.sleep(0)
        logs.get().info("step", expected=session)

    await asyncio.gather(work("a"), work("b"))

    assert all(line["session_id"] == line["expected"] for line in lines(capsys))


def test_events_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("policy", "warning", "json")

    logs.get().info("quiet")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").warning("heard")

    assert [line["event"] for line in lines(capsys)] == ["heard"]


def test_a_logger_made_before_configure_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.get("early")

    logs.configure("videogen", "info", "json")
    log.info("hello")

    assert lines(capsys)[0]["service"] == "videogen"


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_an_exception_is_logged_with_its_traceback(
    fmt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("policy", "info", fmt)  # type: ignore[arg-type]

    try:
        raise ValueError("deep")
    except ValueError:
        logs.get().exception("failed")

    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "test_servicekit_logs.py" in shown
