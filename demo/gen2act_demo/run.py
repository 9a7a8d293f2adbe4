"""One activity, from words to motion, for a person to watch."""

from __future__ import annotations

import time
from pathlib import Path

from gen2act_demo import ports
from gen2act_demo.album import gather, write_sheets, write_video
from gen2act_demo.api import Api, Task
from gen2act_demo.processes import System, service_checks
from gen2act_demo.progress import Progress, table

ROBOT_ID = "sim-1"  # as in the Procfile
START_TIMEOUT_S = 90.0
TASK_TIMEOUT_S = 600.0


def run(root: Path, activity: str, seed: int, output: Path) -> bool:
    """Starts everything, runs one task, writes the pictures, ends everything.

    Args:
        root: repository root.
        activity: what to do, in words.
        seed: of the simulated scene and of the human videos.
        output: folder for the pictures and the log.

    Returns:
        Whether the simulator says that every stage succeeded.

    Raises:
        SystemFailed: a process did not start or ended by itself.
        Refused: the task was not accepted.
        TimeoutError: the task did not end.
    """
    progress = Progress()
    chosen = ports.choose(prefer=ports.Ports())
    output.mkdir(parents=True, exist_ok=True)
    system = System(
        root,
        chosen,
        output / "system.log",
        environment={"ROBOT_OPTIONS": f"--seed {seed}"},
    )
    progress.line(f"starting the processes of the Procfile; log: {system.log}")
    began = time.monotonic()
    api = Api(chosen.http_url)
    with system:
        system.wait_until_ready(
            [*service_checks(chosen), api.robot_attached(ROBOT_ID)], timeout_s=START_TIMEOUT_S
        )
        progress.line(f"ready after {time.monotonic() - began:.1f} s; API: {chosen.http_url}/docs")
        task = _watch(api, api.submit(activity, ROBOT_ID, seed=seed), progress)
        stages = gather(api, task)
        processes = len(system.processes())
    api.close()
    progress.line("")
    progress.line(table(task))
    progress.line("")
    if stages:
        sheets = write_sheets(stages, output)
        write_video(stages, output / "side-by-side.mp4")
        for path in (output / "side-by-side.mp4", *sheets):
            progress.line(f"wrote {path}")
    progress.line(
        f"ended all {processes} processes; {time.monotonic() - began:.0f} s in all; "
        + ("every stage succeeded" if task.every_stage_succeeded else "NOT every stage succeeded")
    )
    return task.every_stage_succeeded


def _watch(api: Api, task_id: str, progress: Progress) -> Task:
    progress.line(f"task {task_id}")
    for event in api.events(task_id, timeout_s=TASK_TIMEOUT_S):
        progress.show(event)
    return api.task(task_id)
