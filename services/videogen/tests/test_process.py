"""`python -m gen2act_videogen` as an operator starts it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest
from fake_http import FakeHttp, Script, as_json

from gen2act_contracts import frames, pb
from gen2act_servicekit.grpc_client import channel
from gen2act_servicekit.testing import LocalRedis, eventually, free_port
from gen2act_videogen.testing import scene_picture

pytest.importorskip("gen2act_sim", reason="the simulator is not installed")


async def launch(**environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gen2act_videogen",
        env={**os.environ, **{f"GEN2ACT_{name}": value for name, value in environment.items()}},
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("VIDEO_BACKENDS", "demonstrater", "did you mean 'demonstrator'"),
        ("VIDEO_BACKENDS", " , ", "name at least one"),
        ("VIDEO_FRAMES", "3", "GEN2ACT_VIDEO_FRAMES"),
        ("VIDEO_SIZE", "225", "GEN2ACT_VIDEO_SIZE"),
        ("REDIS_URL", "localhost", "GEN2ACT_REDIS_URL"),
    ],
)
async def test_a_bad_setting_ends_it_with_one_readable_line(
    name: str, value: str, hint: str
) -> None:
    process = await launch(**{name: value})
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().count("\n") == 1
    assert hint in said.decode()


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid` (Linux)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
async def test_however_it_ends_no_worker_is_left(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    port = free_port()
    with LocalRedis(tmp_path) as redis:
        process = await launch(
            PORT=str(port),
            METRICS_PORT="0",
            REDIS_URL=redis.url,
            VIDEO_BACKENDS="demonstrator",
        )
        assert process.stderr is not None and process.pid is not None
        drained = asyncio.create_task(process.stderr.read())
        async with channel(f"127.0.0.1:{port}") as connection:
            stub = pb.videogen_grpc.VideoGenerationStub(connection)

            async def available() -> bool:
                reply = await stub.ListBackends(
                    pb.videogen.ListBackendsRequest(), timeout=60, wait_for_ready=True
                )
                return any(each.is_default and each.available for each in reply.backends)

            await eventually(available, deadline_s=60, what="demonstrator available")
        workers = children(process.pid)
        assert workers
        process.send_signal(number)
        assert await process.wait() == code
        await eventually(
            lambda: not any(running(worker) for worker in workers), what="workers ended"
        )
        await drained


async def test_a_key_stands_in_no_log_however_much_is_logged(tmp_path: Path) -> None:
    key, port = "sk-very-secret", free_port()
    refused = as_json({"error": f"wrong key {key}"}, 401)
    async with FakeHttp(Script({"POST /v1/videos": refused})) as engine:
        with LocalRedis(tmp_path) as redis:
            process = await launch(
                PORT=str(port),
                METRICS_PORT="0",
                REDIS_URL=redis.url,
                LOG_LEVEL="debug",
                VIDEO_BACKENDS="openai-videos",
                ENGINE_BASE_URL=f"{engine.url}/v1",
                ENGINE_API_KEY=key,
            )
            assert process.stderr is not None
            logged = asyncio.create_task(process.stderr.read())
            image = frames.encode_raw(frames.Frame(scene_picture()))
            scene = pb.common.SceneFrame(image=image)
            async with channel(f"127.0.0.1:{port}") as connection:
                call = pb.videogen_grpc.VideoGenerationStub(connection).Generate(
                    pb.videogen.GenerateRequest(task="open the drawer", scene=scene),
                    timeout=60,
                    wait_for_ready=True,
                )
                with pytest.raises(grpc.aio.AioRpcError, match="refuses our key") as failure:
                    async for _ in call:
                        pass
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert engine.requests[0].headers["authorization"] == f"Bearer {key}"
    text = (await logged).decode()
    assert "backend_failed" in text
    assert key not in text + str(failure.value)
