"""The promise of the README: words go in, a simulated manipulator moves, the simulator agrees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image

from gen2act_contracts.video import decode_mp4
from harness.bundle import write_bundle

ROOT = Path(__file__).parents[2]


def demo(output: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gen2act_demo", "--output", str(output), "run", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def coffee(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One demo of all three stages with the shipped policy, its pictures and what it printed."""
    output = tmp_path_factory.mktemp("demo")
    finished = demo(output)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return output, finished.stdout


def test_words_become_motion_that_the_simulator_approves(coffee: tuple[Path, str]) -> None:
    _, said = coffee
    assert "every stage succeeded" in said
    assert said.count("simulator: success") == 3


def test_a_policy_that_misses_fails_the_demo(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    finished = demo(
        tmp_path, "--activity", "press the coffee machine button", GEN2ACT_BUNDLE=str(bundle)
    )
    assert finished.returncode != 0
    assert "every stage succeeded" not in finished.stdout.replace("NOT every stage succeeded", "")


def test_pictures_show_the_stages(coffee: tuple[Path, str]) -> None:
    output, _ = coffee
    frames, fps = decode_mp4((output / "side-by-side.mp4").read_bytes())
    assert len(frames) / fps > 3
    assert frames.std(axis=0).max() > 20  # something moves
    for number in (1, 2, 3):
        with Image.open(output / f"stage-{number}.png") as sheet:
            assert sheet.size[0] > 1000


def test_all_processes_are_gone_afterwards(coffee: tuple[Path, str]) -> None:
    output, _ = coffee
    assert not left_behind(output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "GEN2ACT_BUNDLE": str(write_bundle(tmp_path / "bundle"))}
    running = subprocess.Popen(
        [sys.executable, "-m", "gen2act_demo", "--output", str(tmp_path), "run"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    for line in running.stdout:  # until the robot is about to move
        if "imagining" in line:
            break
    assert len(left_behind(tmp_path)) >= 6  # manager, Redis, three services, robot

    running.send_signal(number)

    status = running.wait(30)
    running.stdout.close()
    assert status in (130, 143, -signal.SIGKILL)
    wait_for(lambda: not left_behind(tmp_path))


def left_behind(output: Path) -> list[str]:
    """Processes of the demo that writes to `output`, known by their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(output) in process.environ().get("DATA_DIR", ""):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.05)


def test_an_activity_that_nobody_knows_is_refused_readably(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    finished = demo(tmp_path, "--activity", "philosophise", GEN2ACT_BUNDLE=str(bundle))
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    assert "GEN2ACT_LLM" in finished.stdout + finished.stderr
