"""Many seeds of one activity through the whole running system, and the table of what happened."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_demo import ports
from gen2act_demo.album import gather, write_sheets
from gen2act_demo.api import Api, Task
from gen2act_demo.ports import HOST, Ports
from gen2act_demo.processes import Check, System, SystemFailed, service_checks
from gen2act_demo.run import START_TIMEOUT_S, TASK_TIMEOUT_S

SERVICES = ("redis", "videogen", "policy", "orchestrator")


@dataclass(frozen=True)
class SeedResult:
    """What one seed gave."""

    seed: int
    task: Task

    @property
    def completed(self) -> bool:
        return self.task.every_stage_succeeded


@dataclass(frozen=True)
class Model:
    """Which policy was asked."""

    name: str
    hash: str
    provider: str


def evaluate(
    root: Path, activity: str, seeds: Sequence[int], output: Path, *, workers: int
) -> tuple[Model, list[SeedResult]]:
    """Runs every seed as its own simulated robot; the services stay up between them.

    Raises:
        SystemFailed, Refused, TimeoutError: as `run.run`.
    """
    chosen = ports.choose()
    with System(root, chosen, output / "system.log", entries=SERVICES) as system:
        system.wait_until_ready(service_checks(chosen), timeout_s=START_TIMEOUT_S)
        model = _model(chosen)

        def one(seed: int) -> SeedResult:
            result = _one_seed(chosen, activity, seed, output)
            _print_line(result)
            return result

        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(one, seeds))
    return model, results


def _one_seed(chosen: Ports, activity: str, seed: int, output: Path) -> SeedResult:
    robot_id = f"sim-seed-{seed}"
    api = Api(chosen.http_url)
    with (output / f"robot-{seed}.log").open("wb") as log:
        robot = subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "robot_client"), "run", "--robot", "sim"),
                *("--robot-id", robot_id, "--seed", str(seed), "--fast"),
                *("--orchestrator", f"{HOST}:{chosen.gateway}"),
                *("--policy", f"{HOST}:{chosen.policy}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        _wait_attached(api.robot_attached(robot_id), robot)
        task_id = api.submit(activity, robot_id, seed=seed)
        for _ in api.events(task_id, timeout_s=TASK_TIMEOUT_S):
            pass
        task = api.task(task_id)
        write_sheets(gather(api, task), output, prefix=f"seed-{seed}-")
        return SeedResult(seed, task)
    finally:
        robot.send_signal(signal.SIGINT)
        try:
            robot.wait(10)
        except subprocess.TimeoutExpired:
            robot.kill()
            robot.wait()
        api.close()


def _wait_attached(check: Check, robot: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while missing := check.ready():
        if robot.poll() is not None or time.monotonic() > deadline:
            raise SystemFailed(f"{missing}; the robot's exit status: {robot.poll()}")
        time.sleep(0.1)


def _model(chosen: Ports) -> Model:
    async def ask() -> Model:
        async with grpc.aio.insecure_channel(f"{HOST}:{chosen.policy}") as channel:
            spec = await pb.policy_grpc.PolicyStub(channel).GetSpec(
                pb.policy.GetSpecRequest(contract_version=CONTRACT_VERSION), timeout=10.0
            )
        return Model(spec.model_name, spec.action_spec.model_hash, spec.provider)

    return asyncio.run(ask())


def _print_line(result: SeedResult) -> None:
    stages = " ".join(mark(stage.succeeded, stage.status) for stage in result.task.stages)
    reason = f"  {result.task.failure.message}" if result.task.failure else ""
    print(f"seed {result.seed}: {stages}{reason}", flush=True)


def mark(succeeded: bool, status: str) -> str:
    """One word for a stage: what the simulator said, or that it was never begun."""
    if status == "pending":
        return "-"
    return "yes" if succeeded else "NO"
