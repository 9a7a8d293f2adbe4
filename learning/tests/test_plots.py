"""Training curves from a run's CSV."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gen2act_learning.plots import NoLog, main, read_log, write_plots

LOG = """part,step,minutes,action,error_mm,terminate_recall
train,25,0.1,5.2,20.0,0.1
train,50,0.2,4.9,15.0,0.2
held-out,50,0.2,5.0,16.0,0.1
train,50,0.3,4.8,14.0,0.3
train,75,0.4,4.7,13.5
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "log-policy.csv").write_text(LOG)
    return tmp_path


def test_a_step_written_again_after_a_resume_counts_once(run: Path):
    curves = read_log(run / "log-policy.csv")
    assert curves["error_mm"] == {"train": {25: 20.0, 50: 14.0}, "held-out": {50: 16.0}}


def test_every_log_becomes_a_picture(run: Path):
    (run / "log-locate.csv").write_text("part,step,minutes,locate\ntrain,25,0.1,0.4\n")
    paths = write_plots(run)
    assert [path.name for path in paths] == ["log-locate.png", "log-policy.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path)]) == 2
    assert "is it the --out of gen2act-train" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "part,step,minutes,action\n"])
def test_a_log_without_rows_is_named(tmp_path: Path, text: str):
    (tmp_path / "log-policy.csv").write_text(text)
    with pytest.raises(NoLog, match="log-policy"):
        write_plots(tmp_path)


def test_plotting_needs_no_torch(run: Path):
    code = (
        "import sys, pathlib\n"
        "from gen2act_learning.plots import write_plots\n"
        "write_plots(pathlib.Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
