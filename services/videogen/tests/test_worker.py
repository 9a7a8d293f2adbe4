"""Worker processes: persistent, killable, replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gen2act_contracts.errors import UnsupportedInstruction
from gen2act_videogen.worker import WorkerDied, WorkerPool

SCRIPT = (sys.executable, str(Path(__file__).parent / "fixtures" / "scripted_worker.py"))


def no_progress(fraction: float, phase: str) -> None:
    """For callers that do not look."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(SCRIPT)
    pool.start()
    yield pool
    await pool.close()


async def test_one_process_serves_many_requests(pool: WorkerPool) -> None:
    replies = [await pool.run({"type": "x", "do": "echo"}, b"data", no_progress) for _ in range(3)]
    assert {payload for _, payload in replies} == {b"data"}
    assert len({header["pid"] for header, _ in replies}) == 1


async def test_large_payloads_pass_both_ways(pool: WorkerPool) -> None:
    data = bytes(range(256)) * 40_000
    _, payload = await pool.run({"type": "x", "do": "echo"}, data, no_progress)
    assert payload == data


async def test_a_typed_refusal_leaves_the_worker_alive(pool: WorkerPool) -> None:
    before, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    with pytest.raises(UnsupportedInstruction, match="cannot do that"):
        await pool.run({"type": "x", "do": "refuse"}, b"", no_progress)
    after, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    assert after["pid"] == before["pid"]


async def test_cancelling_kills_the_worker_and_a_fresh_one_serves(pool: WorkerPool) -> None:
    phases: asyncio.Queue[str] = asyncio.Queue()
    call = asyncio.create_task(
        pool.run({"type": "x", "do": "hang"}, b"", lambda _, phase: phases.put_nowait(phase))
    )
    pid = int(await phases.get())
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert pool.problem == ""  # callers wait for the replacement, they are not refused
    header, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    assert header["pid"] != pid
    await until(lambda: not exists(pid))


async def test_a_crash_is_an_error_and_a_fresh_worker_serves(pool: WorkerPool) -> None:
    with pytest.raises(WorkerDied, match="exit code 7"):
        await pool.run({"type": "x", "do": "die"}, b"", no_progress)
    header, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    assert exists(header["pid"])


async def test_a_worker_that_died_idle_is_replaced(pool: WorkerPool) -> None:
    header, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    os.kill(header["pid"], signal.SIGKILL)
    async with asyncio.timeout(20):
        fresh, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    assert fresh["pid"] != header["pid"]


async def test_a_worker_that_cannot_start_says_why() -> None:
    pool = WorkerPool((*SCRIPT, "broken"))
    assert "starting" in pool.problem
    pool.start()
    await until(lambda: "libegl1" in pool.problem)
    await pool.close()


async def test_closing_ends_every_process() -> None:
    pool = WorkerPool(SCRIPT, size=2)
    pool.start()
    header, _ = await pool.run({"type": "x", "do": "echo"}, b"", no_progress)
    await pool.close()
    assert not exists(header["pid"])
