"""Starting with something wrong: a clear line and an end, or a service that waits and says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gen2act_demo import ports
from gen2act_robot.testing import until
from harness.bundle import write_bundle
from harness.stack import SERVICES, Stack


@contextmanager
def stack_with(folder: Path, **environment: str) -> Iterator[Stack]:
    """A stack with nothing started yet."""
    stack = Stack(folder, ports.choose(), environment)
    try:
        yield stack
    finally:
        stack.stop_all()


def assert_gave_up_with(stack: Stack, name: str, *words: str) -> None:
    stack.start(name)
    assert stack.ended(name) != 0
    said = stack.log(name)
    assert "Traceback" not in said, said
    for word in words:
        assert word in said, said


def test_a_bundle_with_a_missing_graph(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "step.onnx").unlink()
    with stack_with(tmp_path, GEN2ACT_BUNDLE=str(bundle)) as stack:
        assert_gave_up_with(stack, "policy", "step.onnx")


def test_a_bundle_whose_graph_was_changed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with (bundle / "frame_encoder.onnx").open("ab") as graph:
        graph.write(b"\0")
    with stack_with(tmp_path, GEN2ACT_BUNDLE=str(bundle)) as stack:
        assert_gave_up_with(stack, "policy", "frame_encoder.onnx", "sha256")


def test_no_bundle(tmp_path: Path) -> None:
    with stack_with(tmp_path, GEN2ACT_BUNDLE=str(tmp_path / "nowhere")) as stack:
        assert_gave_up_with(stack, "policy", "nowhere", "GEN2ACT_BUNDLE")


def test_an_execution_provider_that_is_not_installed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    with stack_with(tmp_path, GEN2ACT_BUNDLE=str(bundle), GEN2ACT_PROVIDER="cuda") as stack:
        assert_gave_up_with(stack, "policy", "CUDAExecutionProvider")


@pytest.mark.parametrize(
    ("name", "variable", "value", "valid"),
    [
        ("videogen", "GEN2ACT_VIDEO_BACKENDS", "demonstrater", "did you mean 'demonstrator'"),
        ("policy", "GEN2ACT_PROVIDER", "tpu", "cpu"),
        ("orchestrator", "GEN2ACT_LLM_BASE_URL", "localhost:8080", "http://"),
        ("orchestrator", "GEN2ACT_REDIS_URL", "mysql://localhost", "rediss?"),
    ],
)
def test_a_setting_out_of_range(
    tmp_path: Path, name: str, variable: str, value: str, valid: str
) -> None:
    with stack_with(tmp_path, **{variable: value}) as stack:
        assert_gave_up_with(stack, name, variable, valid)


@pytest.fixture
async def without_redis(tmp_path: Path) -> AsyncIterator[Stack]:
    """All services started, Redis not."""
    bundle = write_bundle(tmp_path / "bundle")
    with stack_with(tmp_path, GEN2ACT_BUNDLE=str(bundle), GEN2ACT_VIDEO_BACKENDS="file") as stack:
        for name in SERVICES:
            if name != "redis":
                stack.start(name)
        yield stack


async def test_services_stay_up_without_redis_and_recover_when_it_comes(
    without_redis: Stack,
) -> None:
    stack = without_redis
    await until(lambda: answers(f"{stack.ports.http_url}/livez"), what="the orchestrator")
    async with stack.client() as client:
        ready = await client.get("/readyz")
        posted = await client.post("/tasks", json={"instruction": "make coffee"})
    for response in (ready, posted):
        assert response.status_code == 503
        assert response.json()["code"] == "STORE_UNAVAILABLE"
        assert response.json()["retryable"] is True

    stack.start("redis")

    await stack.ready()
    video = await stack.upload_video()
    assert len(video) == 64
    for name in SERVICES:
        assert "Traceback" not in (stack.folder / f"{name}.log").read_text(), stack.log(name)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).is_success
    except httpx.TransportError:
        return False
