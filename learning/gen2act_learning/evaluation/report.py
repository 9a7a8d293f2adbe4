"""What an evaluation found, as JSON and as Markdown: the same numbers, misses shown."""

from __future__ import annotations

import datetime
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .episodes import EXPERT
from .summary import Mean, Row, controls, mean
from .videos import NONE, OTHER_INSTANCE, SHUFFLED


@dataclass(frozen=True)
class Report:
    """Everything the files are written from."""

    suite: str
    arguments: Sequence[str]  # of gen2act-eval
    bundle_name: str
    bundle_hash: str
    simulator: str  # hash of its sources
    seeds: range
    max_ticks: int
    rows: Mapping[str, Sequence[Row]]  # by video; the expert's too
    missing: Mapping[str, str]  # what the suite should have but has not -> why

    @property
    def videos(self) -> list[str]:
        return [video for video in self.rows if video != EXPERT]


def by_level(rows: Sequence[Row]) -> dict[str, Mean]:
    """The mean of each level, in the order of the rows; one unnamed level in most suites."""
    levels = dict.fromkeys(row.case.level for row in rows)
    return {level: mean(row for row in rows if row.case.level == level) for level in levels}


def as_json(report: Report) -> dict[str, Any]:
    """Plain data."""
    return {
        "suite": report.suite,
        "command": shlex.join(["gen2act-eval", *report.arguments]),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "bundle": {"name": report.bundle_name, "hash": report.bundle_hash},
        "simulator": report.simulator,
        "seeds": [report.seeds.start, report.seeds.stop - 1],
        "max_ticks": report.max_ticks,
        "videos": {
            video: {
                "means": {level: _mean(value) for level, value in by_level(rows).items()},
                "rows": [_row(row) for row in rows],
            }
            for video, rows in report.rows.items()
        },
        "controls": [
            asdict(control) | {"ignores_video": control.ignores_video}
            for control in controls(report.rows)
        ],
        "missing": dict(report.missing),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "case": row.case.id,
        "level": row.case.level,
        "stage": row.stage + 1,
        "task": row.task,
        "of": row.of,
        "success": row.success,
        "wilson_95": [round(bound, 4) for bound in row.wilson_95],
        "success_once": row.success_once,
        "terminated": row.terminated,
        "no_video": row.no_video,
        "ticks": round(row.ticks, 1),
        "missed_seeds": list(row.missed_seeds),
    }


def _mean(value: Mean) -> dict[str, Any]:
    return {
        "cases": value.cases,
        "success": round(value.success, 4),
        "wilson_95": [round(bound, 4) for bound in value.wilson_95],
        "success_once": round(value.success_once, 4),
        "terminated": round(value.terminated, 4),
    }


def as_markdown(report: Report, data: Mapping[str, Any]) -> str:
    """The same for people.

    Args:
        report: as given to `as_json`.
        data: what `as_json` made of it.
    """
    first, last = data["seeds"]
    lines = [
        f"# Suite {report.suite}, closed loop in the simulator",
        "",
        f"Success is judged by the simulator, on seeds {first} to {last}, which no training uses; "
        f"at most {report.max_ticks} ticks a stage. `expert` is the scripted expert on the same "
        "seeds. A stage that was never begun counts as a miss.",
        "",
        f"- command: `{data['command']}`",
        f"- bundle: `{report.bundle_name}`, hash `{report.bundle_hash[:16]}`",
        f"- commit: `{data['commit']}`; simulator: `{report.simulator[:16]}`; date: {data['date']}",
    ]
    for video in report.videos:
        lines += ["", f"## Video: {_video_name(video)}", "", *_table(report, video)]
    if found := controls(report.rows):
        lines += ["", "## Does the policy read its video?", ""]
        lines += ["Mean success of the tasks that share their scene with others:", ""]
        lines += ["| video | tasks | right video | another task's video |", "|---|---|---|---|"]
        for control in found:
            verdict = " **(falls by less than half)**" if control.ignores_video else ""
            lines.append(
                f"| {control.video} | {control.cases} | {control.with_video:.0%} "
                f"| {control.with_shuffled:.0%}{verdict} |"
            )
    if report.missing:
        lines += ["", "## Not available", ""]
        lines += [f"- {what}: {why}" for what, why in report.missing.items()]
    return "\n".join(lines) + "\n"


def _table(report: Report, video: str) -> list[str]:
    lines = [
        "| task | expert | success at the end | 95 % interval | success once "
        "| ended by its own terminate | ticks | missed seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    expert = report.rows.get(EXPERT, ())
    ceiling = {(row.case.id, row.stage): row for row in expert}
    for row in report.rows[video]:
        best = ceiling.get((row.case.id, row.stage))
        low, high = row.wilson_95
        missed = ", ".join(str(seed) for seed in row.missed_seeds)
        no_video = f" ({row.no_video} without a video)" if row.no_video else ""
        lines.append(
            f"| {row.label} | {f'{best.success} of {best.of}' if best else ''} "
            f"| {row.success} of {row.of} | {low:.0%} to {high:.0%} | {row.success_once} "
            f"| {row.terminated} | {row.ticks:.1f} | {missed}{no_video} |"
        )
    experts = by_level(expert)
    for level, value in by_level(report.rows[video]).items():
        best_mean = f"{experts[level].success:.0%}" if level in experts else ""
        low, high = value.wilson_95
        lines.append(
            f"| **mean{f' {level}' if level else ''}** ({value.cases}) | {best_mean} "
            f"| **{value.success:.0%}** | {low:.0%} to {high:.0%} | {value.success_once:.0%} "
            f"| {value.terminated:.0%} | | |"
        )
    return lines


def _video_name(video: str) -> str:
    notes = {
        SHUFFLED: "another task's: the control",
        OTHER_INSTANCE: "the same task in another scene",
        NONE: "the instruction in words",
    }
    return f"{video} ({notes[video]})" if video in notes else video


def _commit() -> str:
    """The checked-out commit, "-dirty" where tracked files were changed."""
    made = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return made.stdout.strip() if made.returncode == 0 else "not in a git checkout"
