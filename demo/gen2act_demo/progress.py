"""One line per thing that happened; one changing line for the ticks on a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from httpx_sse import ServerSentEvent

from gen2act_demo.api import Stage, Task

BAR = 20  # characters


class Progress:
    """Prints events as they come."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._live = out.isatty()
        self._dirty = False  # a changing line is on the terminal

    def line(self, text: str) -> None:
        if self._dirty:
            self._out.write("\r\033[K")
            self._dirty = False
        self._out.write(text + "\n")
        self._out.flush()

    def _change(self, text: str) -> None:
        if self._live:
            self._out.write("\r\033[K" + text)
            self._out.flush()
            self._dirty = True

    def show(self, event: ServerSentEvent) -> None:
        """Prints one server-sent event of a task."""
        payload: dict[str, Any] = json.loads(event.data) if event.data else {}
        data: dict[str, Any] = payload.get("data", payload)
        number = payload.get("stage")
        stage = f"stage {number + 1}" if isinstance(number, int) else ""
        match event.event:
            case "stage.tick":
                self._tick(stage, data)
            case "video.progress":
                fraction = float(data.get("fraction", 0.0))
                self._change(f"  {stage}  human video {_bar(fraction)} {data.get('phase', '')}")
            case "task.waiting_for_robot" if data.get("stages"):
                self.line("plan: " + " → ".join(data["stages"]))
            case "stage.resetting":
                self.line(f"  {stage}  {data.get('task', '')}: robot goes to its reset pose")
            case "stage.imagining":
                self.line(f"  {stage}  imagining a person doing it")
            case "stage.preparing":
                seconds = float(data.get("video_seconds", 0.0))
                self.line(f"  {stage}  human video in {seconds:.1f} s: “{data.get('prompt', '')}”")
            case "stage.rolling_out":
                self.line(f"  {stage}  goal tokens ready, the robot moves")
            case "stage.done":
                verdict = _verdict(data.get("success"))
                self.line(
                    f"  {stage}  {data.get('ticks')} ticks, ended by {data.get('ended_by')}, "
                    f"simulator: {verdict}"
                )
            case _ if "message" in data:
                self.line(f"{stage or 'task'} {data.get('status', event.event)}: {data['message']}")
            case _ if event.event.startswith("task."):
                self.line(f"task {event.event.removeprefix('task.')}")

    def _tick(self, stage: str, data: dict[str, Any]) -> None:
        tick = int(data.get("tick", 0))
        terminate = float(data.get("terminate_probability", 0.0))
        held = "  held" if data.get("held") else ""
        text = f"  {stage}  tick {tick:3d}  terminate {_bar(terminate)} {terminate:.2f}{held}"
        if self._live:
            self._change(text)
        elif tick % 5 == 0 or held:  # a log file needs no line three times a second
            self.line(text)


def _bar(fraction: float) -> str:
    filled = round(max(0.0, min(1.0, fraction)) * BAR)
    return "█" * filled + "·" * (BAR - filled)


def _verdict(success: bool | None) -> str:
    return "no verdict" if success is None else "success" if success else "failure"


def outcome(stage: Stage) -> str:
    """What became of a stage, in one line."""
    if stage.status == "pending":
        return "not begun"
    verdict = _verdict(stage.verdict.success if stage.verdict else None)
    return f"{stage.ticks} ticks, ended by {stage.ended_by or stage.status}, simulator: {verdict}"


def table(task: Task) -> str:
    """The table shown at the end: one row per stage."""
    head = ("stage", "prompt", "video [s]", "ticks", "ended by", "simulator")
    rows = [head]
    for stage in task.stages:
        rows.append(
            (
                f"{stage.index + 1} {stage.task}",
                stage.video.prompt if stage.video else "",
                f"{stage.video.seconds:.1f}" if stage.video else "",
                str(stage.ticks) if stage.ended_by else "",
                stage.ended_by or ("" if stage.status == "pending" else stage.status),
                _verdict(stage.verdict.success) if stage.verdict else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
