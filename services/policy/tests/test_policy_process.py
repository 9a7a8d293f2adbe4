"""The service as a process, with a real store."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gen2act_contracts import CONTRACT_VERSION, keys, pb, video
from gen2act_contracts.errors import Draining, Gen2ActError, StoreUnavailable
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.bundle import load_bundle
from gen2act_policy.testing import WAIT_S, write_random_bundle
from gen2act_policy.testing.harness import RobotStream
from gen2act_servicekit import grpc_client, redis
from gen2act_servicekit.testing import LocalRedis, eventually, free_port

SERVING = health_pb2.HealthCheckResponse.SERVING


class PolicyProcess:
    """`python -m gen2act_policy` on a free port."""

    def __init__(self, bundle: Path, redis_url: str, **settings: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        environment = {
            **os.environ,
            "GEN2ACT_BUNDLE": str(bundle),
            "GEN2ACT_REDIS_URL": redis_url,
            "GEN2ACT_PORT": str(self.port),
            "GEN2ACT_METRICS_PORT": "0",
            "GEN2ACT_THREADS": "1",
            "GEN2ACT_MAX_BATCH": "2",
            **settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gen2act_policy"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str]:
        """Exit code and what it wrote."""
        _, text = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, text

    def __enter__(self) -> "PolicyProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalRedis]:
    directory = tmp_path / "redis"
    directory.mkdir()
    server = LocalRedis(directory)
    yield server
    server.kill()


async def until_ready(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stub file has no methods

    async def ready() -> bool:
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service="policy"), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return bool(reply.status == SERVING)

    await eventually(ready, deadline_s=WAIT_S, what="policy ready")


async def keep_video(url: str, video_id: str) -> None:
    client = redis.connect(url)
    mp4 = video.encode_mp4(np.zeros((16, 32, 32, 3), np.uint8), 10)
    await client.set(keys.video_key(video_id), mp4)
    await client.aclose()


async def prepare(channel: grpc.aio.Channel, video_id: str) -> pb.policy.PrepareGoalResponse:
    stub = pb.policy_grpc.PolicyStub(channel)
    request = pb.policy.PrepareGoalRequest(video_id=video_id)
    try:
        return await stub.PrepareGoal(request, timeout=WAIT_S)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def open_rollout(channel: grpc.aio.Channel, bundle: Path, goal_id: str) -> RobotStream:
    stream = RobotStream(pb.policy_grpc.PolicyStub(channel).Rollout(timeout=2 * WAIT_S))
    opening = pb.policy.OpenRollout(
        session_id="robot",
        goal_id=goal_id,
        contract_version=CONTRACT_VERSION,
        spec_hash=load_bundle(bundle).spec.hash,
    )
    await stream.write(pb.policy.RolloutRequest(open=opening))
    assert await stream.reply() is not None
    return stream


async def test_redis_down_at_start_and_in_the_middle(
    bundle_dir: Path, store: LocalRedis, spec: ActionSpec
) -> None:
    with PolicyProcess(bundle_dir, store.url) as policy:
        async with grpc_client.channel(policy.address) as channel:
            await until_ready(channel)
            with pytest.raises(StoreUnavailable):  # down at start: said so, and it stays up
                await prepare(channel, "v1")

            store.start()
            await keep_video(store.url, "v1")
            goal = await prepare(channel, "v1")
            client = redis.connect(store.url)
            shared = await client.get(keys.goal_key("v1", load_bundle(bundle_dir).model_hash))
            await client.aclose()
            assert shared is not None  # other replicas find the tokens

            rollout = await open_rollout(channel, bundle_dir, goal.goal_id)
            grey = np.full((32, 32, 3), 100, np.uint8)
            await rollout.send(1, grey)
            await rollout.action(1)
            store.kill()  # in the middle: the rollout goes on, new videos wait
            await rollout.send(2, grey)
            await rollout.action(2)
            with pytest.raises(StoreUnavailable):
                await prepare(channel, "v2")

            store.start()
            await keep_video(store.url, "v2")
            assert (await prepare(channel, "v2")).goal_id
            await rollout.send(3, grey)
            await rollout.action(3)


async def test_a_terminated_service_sends_robots_elsewhere_and_ends_well(
    bundle_dir: Path, store: LocalRedis
) -> None:
    store.start()
    await keep_video(store.url, "v1")
    with PolicyProcess(bundle_dir, store.url) as policy:
        async with grpc_client.channel(policy.address) as channel:
            await until_ready(channel)
            goal = await prepare(channel, "v1")
            rollout = await open_rollout(channel, bundle_dir, goal.goal_id)
            policy.process.send_signal(signal.SIGTERM)
            error: Gen2ActError = await rollout.error()
            assert isinstance(error, Draining)
        code, _ = await asyncio.to_thread(policy.finish)
        assert code == 0


def test_a_bad_bundle_ends_the_start_with_one_clear_line(bundle_dir: Path) -> None:
    (bundle_dir / "step.onnx").unlink()
    with PolicyProcess(bundle_dir, "redis://127.0.0.1:1/0") as policy:
        code, text = policy.finish()
    assert code != 0
    last = text.strip().splitlines()[-1]
    assert last.startswith("BUNDLE_INVALID")
    assert "step.onnx" in last
    assert "Traceback" not in text


def test_a_bundle_that_follows_no_video_ends_the_start_with_one_clear_line(
    tmp_path: Path, spec: ActionSpec
) -> None:
    write_random_bundle(tmp_path, spec, conditioning="language")
    with PolicyProcess(tmp_path, "redis://127.0.0.1:1/0") as policy:
        code, text = policy.finish()
    assert code == 1
    assert "gen2act-eval" in text.strip().splitlines()[-1]
    assert "Traceback" not in text


def test_a_missing_provider_ends_the_start_with_one_clear_line(bundle_dir: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with PolicyProcess(bundle_dir, "redis://127.0.0.1:1/0", GEN2ACT_PROVIDER="cuda") as policy:
        code, text = policy.finish()
    assert code != 0
    assert text.strip().splitlines()[-1].startswith("PROVIDER_MISSING")
    assert "Traceback" not in text
