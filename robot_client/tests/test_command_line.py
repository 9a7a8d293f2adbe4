import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gen2act_contracts.errors import ContractMismatch
from gen2act_robot import cli
from gen2act_robot.testing import FakeOrchestrator, FakePolicyServer, answer, make_spec, until

SPEC = make_spec()
RUN = ["run", "--robot", "mock", "--robot-id", "arm-1", "--orchestrator", "localhost:1"]

# A driver as a user would write one; it leaves a trace that outlives its process.
DRIVER = """
import json
from gen2act_robot.testing import MockRobot

class Traced(MockRobot):
    def __init__(self, trace):
        super().__init__()
        self.faults.on_call = lambda name: open(trace, "a").write(json.dumps(name) + "\\n")

    def stop(self, reason):
        self.faults.on_call("stop")
        super().stop(reason)
"""


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--robot", "mok"], "Did you mean 'mock'?"),
        (["--fast", "--period-s", "0.1"], "exclude each other"),
        (["--fast", "--latency-allowance", "0"], "must be above 0"),
        (["--latency-allowance", "1.5"], "must be in [0, 1)"),
        (["--period-s", "-1"], "must be positive"),
        (["--hold-ms", "0"], "must be positive"),
        (["--scene", "coffee"], "--scene is for --robot sim"),
        (["--driver-option", "port"], "KEY=VALUE"),
        (["--robot", "my_arm:Arm", "--seed", "1"], "--driver-option seed="),
    ],
)
def test_a_bad_argument_gets_one_readable_line(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*RUN, *arguments]) == cli.EXIT_USAGE
    assert message in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--orchestrator", "localhost"], "not HOST:PORT"),
        (["--orchestrator", "localhost:99999"], "not HOST:PORT"),
        (["--policy", ":1"], "not HOST:PORT"),
        (["--robot-id", "arm 1"], "letters, digits"),
        (["--robot-id", ""], "letters, digits"),
    ],
)
def test_a_malformed_value_is_named(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([*RUN, *arguments])
    assert exit_.value.code == cli.EXIT_USAGE
    assert message in capsys.readouterr().err


def test_help_shows_examples_units_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    shown = capsys.readouterr().out
    for expected in ("--robot sim", "HOST:PORT", "[s]", "Ctrl-C", "--fast", "module:Class"):
        assert expected in shown


async def start(orchestrator: str, *arguments: str, path: str = "") -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gen2act_robot",
        "run",
        "--robot-id",
        "arm-1",
        "--orchestrator",
        orchestrator,
        *arguments,
        env={**os.environ, "PYTHONPATH": path},
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_in_a_rollout_leaves_the_robot_holding(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "traced_arm.py").write_text(DRIVER)
    trace = tmp_path / "trace"
    async with FakeOrchestrator() as orchestrator, FakePolicyServer(SPEC) as policy:
        policy.answers = lambda got: answer(got, SPEC, (0, 0, 0))
        process = await start(
            orchestrator.address,
            *("--robot", "traced_arm:Traced", "--driver-option", f"trace={trace}"),
            *("--policy", policy.address, "--period-s", "0.1"),
            path=str(tmp_path),
        )
        try:
            attachment = await orchestrator.attached()
            assert (await attachment.reset()).ok
            assert (await attachment.start_rollout(SPEC)).ok
            await until(lambda: any(not tick.held for tick in attachment.ticks))
            process.send_signal(number)
            async with asyncio.timeout(30):
                _, stderr = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, stderr.decode()
        assert b"Traceback" not in stderr
        await until(lambda: attachment.closed_by_robot)
    calls = [json.loads(line) for line in trace.read_text().splitlines()]
    assert "apply" in calls
    last_motion = max(i for i, call in enumerate(calls) if call == "apply")
    assert "hold" in calls[last_motion:]
    assert calls[-2:] == ["hold", "close"]
    assert "stop" not in calls


async def test_ctrl_c_works_while_the_orchestrator_is_away() -> None:
    orchestrator = FakeOrchestrator()
    await orchestrator.start()
    address = orchestrator.address
    await orchestrator.stop()
    process = await start(address, "--robot", "mock")
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            line = await process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"holding, again in" in line
    assert process.returncode == 0
    assert b"Traceback" not in stderr


async def test_a_refused_robot_exits_with_one_readable_line() -> None:
    async with FakeOrchestrator(refuse=ContractMismatch("this is version 2")) as orchestrator:
        process = await start(orchestrator.address, "--robot", "mock", "--log-level", "error")
        async with asyncio.timeout(60):
            _, stderr = await process.communicate()
    assert process.returncode == cli.EXIT_REFUSED
    assert one_line(stderr.decode()) == "robot_client: [CONTRACT_MISMATCH] this is version 2"
