"""The promise of the README: words go in, a simulated manipulator moves, the simulator agrees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from gen2act_contracts.video import decode_mp4

ROOT = Path(__file__).parents[2]


def demo(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gen2act_demo", "--output", str(output), "run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def coffee(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One demo, its pictures and what it printed."""
    output = tmp_path_factory.mktemp("demo")
    finished = demo(output, "--activity", "make coffee", "--seed", "100")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return output, finished.stdout


def test_every_stage_of_making_coffee_succeeds(coffee: tuple[Path, str]) -> None:
    _, said = coffee
    assert "every stage succeeded" in said
    assert said.count("simulator: success") == 3


def test_pictures_show_every_stage(coffee: tuple[Path, str]) -> None:
    output, _ = coffee
    frames, fps = decode_mp4((output / "side-by-side.mp4").read_bytes())
    assert len(frames) / fps > 5
    assert frames.std(axis=0).max() > 20  # something moves
    for number in (1, 2, 3):
        with Image.open(output / f"stage-{number}.png") as sheet:
            assert sheet.size[0] > 1000


def test_all_processes_are_gone_afterwards(coffee: tuple[Path, str]) -> None:
    output, _ = coffee
    left = [
        process.info
        for process in psutil.process_iter(["pid", "cmdline"])
        if any(str(output) in word for word in process.info["cmdline"] or [])
    ]
    assert not left


def test_an_activity_that_nobody_knows_is_refused_readably(tmp_path: Path) -> None:
    finished = demo(tmp_path, "--activity", "philosophise")
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    assert "GEN2ACT_LLM" in finished.stdout + finished.stderr
