"""Fetches the recordings of a task that is over and writes its pictures."""

from __future__ import annotations

from pathlib import Path

from gen2act_contracts.video import decode_mp4, encode_mp4
from gen2act_demo.api import Api, Task
from gen2act_demo.pictures import StagePictures, contact_sheet, side_by_side
from gen2act_demo.progress import outcome


def gather(api: Api, task: Task) -> list[StagePictures]:
    """The stages that have both videos, in order."""
    gathered = []
    for stage in task.stages:
        human = api.artefact(task.id, stage.index, "human.mp4")
        robot = api.artefact(task.id, stage.index, "rollout.mp4")
        if human is None or robot is None:
            continue
        robot_frames, robot_fps = decode_mp4(robot)
        gathered.append(
            StagePictures(
                number=stage.index + 1,
                task=stage.task,
                prompt=stage.video.prompt if stage.video else "",
                outcome=outcome(stage),
                success=stage.succeeded,
                human=decode_mp4(human)[0],
                robot=robot_frames,
                period_s=1.0 / robot_fps,
            )
        )
    return gathered


def write_sheets(stages: list[StagePictures], folder: Path, prefix: str = "") -> list[Path]:
    """A contact sheet per stage."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for stage in stages:
        path = folder / f"{prefix}stage-{stage.number}.png"
        contact_sheet(stage).save(path)
        paths.append(path)
    return paths


def write_video(stages: list[StagePictures], path: Path) -> None:
    """One MP4 of all stages, human video beside robot."""
    frames, fps = side_by_side(stages)
    path.write_bytes(encode_mp4(frames, fps))
