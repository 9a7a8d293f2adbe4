"""Result tables: seeds listed, misses shown, the interval, and how to get the same again."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gen2act_demo.evaluate import Model, SeedResult, mark
from gen2act_demo.wilson import wilson_interval

# Settings of the services that decide what is evaluated; they are part of the command.
_TOLD = ("GEN2ACT_BUNDLE", "GEN2ACT_VIDEO_BACKENDS")


def commit(root: Path) -> str:
    """The checked-out commit, marked where tracked files were changed."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + (" with changes" if dirty else "")


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores, {model}, no GPU"


def command_line(activity: str, seeds: str, name: str | None) -> str:
    """What to type for the same table again."""
    told = [("NAME", name), *((setting, os.environ.get(setting)) for setting in _TOLD)]
    changed = "".join(f" {setting}={value}" for setting, value in told if value)
    return f'make evaluate ACTIVITY="{activity}" SEEDS={seeds}{changed}'


def as_json(
    activity: str, command: str, root: Path, model: Model, results: Sequence[SeedResult]
) -> dict[str, Any]:
    """Everything a reader needs, as plain data."""
    completed = sum(result.completed for result in results)
    low, high = wilson_interval(completed, len(results))
    return {
        "activity": activity,
        "command": command,
        "commit": commit(root),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": _machine(),
        "model": {"name": model.name, "hash": model.hash, "provider": model.provider},
        "completed": completed,
        "seeds": len(results),
        "wilson_95": [round(low, 4), round(high, 4)],
        "results": [
            {
                "seed": result.seed,
                "completed": result.completed,
                "task_status": result.task.status,
                "failure": result.task.failure.model_dump() if result.task.failure else None,
                "stages": [
                    {
                        "task": stage.task,
                        "status": stage.status,
                        "success": stage.succeeded,
                        "success_once": stage.verdict.success_once if stage.verdict else None,
                        "ticks": stage.ticks,
                        "ended_by": stage.ended_by,
                        "attempts": stage.attempts,
                        "video_seconds": stage.video.seconds if stage.video else None,
                        "backend": stage.video.backend if stage.video else None,
                    }
                    for stage in result.task.stages
                ],
            }
            for result in results
        ],
    }


def as_markdown(data: dict[str, Any]) -> str:
    """The same for people."""
    results: list[dict[str, Any]] = data["results"]
    stages = max(results, key=lambda result: len(result["stages"]))["stages"]
    low, high = data["wilson_95"]
    lines = [
        f"# {data['activity']}: {data['completed']} of {data['seeds']} seeds completed",
        "",
        f"Every stage succeeded by the simulator's own predicate, at the end of the stage, on "
        f"{data['completed']} of {data['seeds']} seeds "
        f"(95 % Wilson interval {low:.0%} to {high:.0%}). The whole running system took part: "
        "orchestrator, videogen, policy, Redis and a simulated robot, as separate processes.",
        "",
        f"- command: `{data['command']}`",
        f"- commit: `{data['commit']}`; date: {data['date']}; machine: {data['machine']}",
        f"- model: `{data['model']['name']}`, hash `{data['model']['hash'][:16]}`, "
        f"{data['model']['provider']}",
        f"- human videos: {_made_by(results)}",
        "",
        "A cell is the simulator's verdict, the ticks used and what ended the stage; a dash is a "
        "stage that was never begun.",
        "",
        "| seed | " + " | ".join(f"{i + 1} {s['task']}" for i, s in enumerate(stages)) + " | all |",
        "|---|" + "---|" * (len(stages) + 1),
    ]
    for result in results:
        cells = [_cell(stage) for stage in result["stages"]]
        cells += [""] * (len(stages) - len(cells))
        done = "yes" if result["completed"] else "**NO**"
        lines.append(f"| {result['seed']} | " + " | ".join(cells) + f" | {done} |")
    totals = []
    for index in range(len(stages)):
        begun = [r["stages"][index] for r in results if len(r["stages"]) > index]
        begun = [stage for stage in begun if stage["status"] != "pending"]
        totals.append(f"{sum(stage['success'] for stage in begun)} of {len(begun)} begun")
    lines.append("| | " + " | ".join(totals) + f" | {data['completed']} of {data['seeds']} |")
    misses = [result for result in results if not result["completed"]]
    if misses:
        lines += ["", "Misses:", ""]
        for result in misses:
            said = result["failure"]["message"] if result["failure"] else "the simulator disagreed"
            lines.append(f"- seed {result['seed']}: task {result['task_status']}; {said}")
    return "\n".join(lines) + "\n"


def _made_by(results: Sequence[dict[str, Any]]) -> str:
    """The backends that made the videos, with how many and how long they took."""
    made = [s for result in results for s in result["stages"] if s["backend"] is not None]
    lines = []
    for backend in sorted({stage["backend"] for stage in made}):
        seconds = [stage["video_seconds"] for stage in made if stage["backend"] == backend]
        lines.append(f"`{backend}`, {len(seconds)}, {statistics.median(seconds):.1f} s (median)")
    return "; ".join(lines) or "none"


def _cell(stage: dict[str, Any]) -> str:
    if stage["status"] == "pending":
        return "-"
    verdict = mark(stage["success"], stage["status"])
    again = f", attempt {stage['attempts']}" if stage["attempts"] > 1 else ""
    return f"{verdict}, {stage['ticks']}, {stage['ended_by'] or stage['status']}{again}"


def write(data: dict[str, Any], folder: Path, name: str) -> tuple[Path, Path]:
    """Writes <name>.json and <name>.md; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_data, as_text = folder / f"{name}.json", folder / f"{name}.md"
    as_data.write_text(json.dumps(data, indent=1) + "\n")
    as_text.write_text(as_markdown(data))
    return as_data, as_text
