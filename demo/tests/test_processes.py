"""Nothing that a run started outlives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gen2act_demo import ports, processes

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "grandchild"], start_new_session=True)
print("up", flush=True)
time.sleep(600)
"""


def procfile(folder: Path, **entries: str) -> Path:
    (folder / "Procfile").write_text("".join(f"{n}: {c}\n" for n, c in entries.items()))
    return folder


def system(folder: Path, **entries: str) -> processes.System:
    return processes.System(procfile(folder, **entries), ports.choose(), folder / "log" / "run.log")


def wait_for(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.02)


def test_processes_that_ignore_being_asked_are_gone_after_stop(tmp_path: Path) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    running = system(tmp_path, stubborn=f"python {script}")
    running.start()
    wait_for(lambda: running.log.read_text().count("| up") == 2)
    started = running.processes()

    killed = running.stop(grace_s=0.3)

    assert len(started) >= 3  # the manager, the process and its own child
    assert killed >= 2
    assert not any(process.is_running() for process in started)
    assert not running.processes()


def test_a_process_that_ends_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with system(tmp_path, other="sleep 60", doomed="echo no such bundle; exit 3") as running:
        never = processes.Check("doomed", lambda: "not listening")
        with pytest.raises(
            processes.SystemFailed, match=r"doomed ended \(exit status 3\)[^!]*no such bundle"
        ):
            running.wait_until_ready([never], timeout_s=10)


def test_what_is_still_missing_is_named_when_time_is_up(tmp_path: Path) -> None:
    with system(tmp_path, sleeper="sleep 60") as running:
        never = processes.Check("policy", lambda: "connection refused")
        with pytest.raises(processes.SystemFailed, match=r"policy is not ready.*refused"):
            running.wait_until_ready([never], timeout_s=0.3)


def test_ports_reach_the_processes(tmp_path: Path) -> None:
    with system(tmp_path, echo="echo port=$GEN2ACT_HTTP_PORT; sleep 60") as running:
        wait_for(lambda: f"port={running.ports.http}" in running.log.read_text())
