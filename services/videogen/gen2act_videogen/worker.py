"""Persistent worker processes that may be killed in the middle of their work.

A generation in a thread cannot be stopped; one in a process can. A cancelled call kills its
worker and a fresh one is warmed in the background, so the next call does not pay for the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gen2act_contracts.errors import Gen2ActError, GenerationFailed, from_code
from gen2act_servicekit import logs
from gen2act_videogen import worker_protocol as wire

_LOG = logs.get(__name__)

RESTART_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # after consecutive failures to start


class WorkerDied(GenerationFailed):
    """A worker process ended while it was needed."""


class WorkerProcess:
    """One child process that speaks `worker_protocol`. Used by one call at a time."""

    def __init__(self, command: Sequence[str], start_timeout_s: float) -> None:
        self._command = tuple(command)
        self._start_timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts the child and waits until it is warm.

        Raises:
            WorkerDied: it ended before it was ready; the message is its own.
        """
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(self._start_timeout_s):
                header, _ = await self._receive()
        except TimeoutError:
            await self.kill()
            raise WorkerDied(
                f"the worker process was not ready within {self._start_timeout_s:g} s"
            ) from None
        except BaseException:
            await self.kill()
            raise
        if header["type"] != wire.READY:
            await self.kill()
            raise WorkerDied(str(header.get("message", "the worker process did not start")))

    async def call(
        self, header: wire.Header, payload: bytes, progress: Callable[[float, str], None]
    ) -> tuple[wire.Header, bytes]:
        """One request and its result.

        Raises:
            Gen2ActError: the typed error that the worker sent; the worker lives.
            WorkerDied: the child ended.
        """
        if self._process is None or self._process.stdin is None:
            raise WorkerDied("the worker process is not running")
        try:
            self._process.stdin.write(wire.pack(header, payload))
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WorkerDied("the worker process ended") from error
        while True:
            reply, data = await self._receive()
            if reply["type"] == wire.PROGRESS:
                progress(float(reply["fraction"]), str(reply["phase"]))
            elif reply["type"] == wire.ERROR:
                raise from_code(str(reply["code"]), str(reply["message"]), {})
            else:
                return reply, data

    async def kill(self) -> None:
        """Ends the child at once and reaps it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _receive(self) -> tuple[wire.Header, bytes]:
        assert self._process is not None and self._process.stdout is not None
        reader = self._process.stdout
        try:
            sizes = wire.lengths(await reader.readexactly(wire.PREFIX.size))
            header = wire.parse_header(await reader.readexactly(sizes[0]))
            return header, await reader.readexactly(sizes[1])
        except asyncio.IncompleteReadError as error:
            code = await self._process.wait()
            raise WorkerDied(f"the worker process ended unexpectedly (exit code {code})") from error
        except (wire.ProtocolError, ValueError) as error:
            raise WorkerDied(f"the worker process sent no valid message: {error}") from error


class WorkerPool:
    """A fixed number of warm workers; a spent one is replaced in the background."""

    def __init__(
        self, command: Sequence[str], *, size: int = 1, start_timeout_s: float = 60.0
    ) -> None:
        self._command = tuple(command)
        self._size = size
        self._start_timeout_s = start_timeout_s
        self._idle: asyncio.Queue[WorkerProcess] = asyncio.Queue()
        self._living: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem = "its worker process is starting"

    @property
    def problem(self) -> str:
        """Why no worker can be had, or "" if one lives or is being replaced after a cancel."""
        return "" if any(worker.alive for worker in self._living) else self._problem

    def start(self) -> None:
        """Begins to warm the workers; returns at once."""
        for _ in range(self._size):
            self._spawn()

    async def run(
        self, header: wire.Header, payload: bytes, progress: Callable[[float, str], None]
    ) -> tuple[wire.Header, bytes]:
        """One request on the next idle worker. Being cancelled kills that worker.

        A worker may have died since its last request (out of memory, by hand); a request is
        therefore given to a second one before its death counts as the request's failure.
        """
        try:
            return await self._run_once(header, payload, progress)
        except WorkerDied as error:
            _LOG.warning("worker_died", reason=str(error))
        return await self._run_once(header, payload, progress)

    async def _run_once(
        self, header: wire.Header, payload: bytes, progress: Callable[[float, str], None]
    ) -> tuple[wire.Header, bytes]:
        worker = await self._next_worker()
        spent = True
        try:
            result = await worker.call(header, payload, progress)
            spent = False
            return result
        except Gen2ActError as error:
            # A typed refusal leaves the worker as good as it was.
            spent = isinstance(error, WorkerDied)
            raise
        finally:
            if spent:
                self._retire(worker)
            else:
                self._idle.put_nowait(worker)

    async def close(self) -> None:
        """Ends every worker."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._living))
        self._living.clear()
        self._problem = "its worker processes are closed"

    async def _next_worker(self) -> WorkerProcess:
        while True:
            worker = await self._idle.get()
            if worker.alive:
                return worker
            self._retire(worker)  # died while idle, e.g. killed for memory

    def _retire(self, worker: WorkerProcess) -> None:
        self._living.discard(worker)
        # The replacement takes a moment for which callers can wait; it is no reason to refuse.
        self._problem = ""
        self._background(worker.kill())
        self._spawn()

    def _spawn(self) -> None:
        self._background(self._warm())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm(self) -> None:
        attempt = 0
        while True:
            await asyncio.sleep(RESTART_BACKOFF_S[min(attempt, len(RESTART_BACKOFF_S) - 1)])
            worker = WorkerProcess(self._command, self._start_timeout_s)
            try:
                await worker.start()
            except (WorkerDied, OSError) as error:
                attempt += 1
                self._problem = str(error)
                _LOG.warning("worker_start_failed", attempt=attempt, reason=str(error))
                continue
            self._living.add(worker)
            self._idle.put_nowait(worker)
            return


def python_module(module: str) -> tuple[str, ...]:
    """The command that runs a module in this interpreter."""
    return (sys.executable, "-m", module)
