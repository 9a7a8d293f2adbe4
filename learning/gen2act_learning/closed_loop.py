"""A bundle drives the simulator: one stage, or the stages of an activity without a reset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen2act_policy.local import LocalPolicy
from gen2act_sim import World, human_video

TERMINATE_THRESHOLD = 0.5
TERMINATE_DEBOUNCE = 2  # consecutive ticks, as the orchestrator's stage gate


@dataclass(frozen=True)
class StageResult:
    """How one stage ended, judged by the simulator."""

    task: str
    success: bool  # at the end
    success_once: bool
    terminated: bool  # by the policy's own terminate, not by the tick budget
    ticks: int
    frames: list[NDArray[np.uint8]]  # what the robot saw


def rollout(
    world: World,
    policy: LocalPolicy,
    task: str,
    *,
    video_seed: int,
    video_task: str | None = None,
    max_ticks: int = 40,
) -> StageResult:
    """Imagine (``demonstrator``) and act from the world as it is now.

    ``video_task`` shows another task's video of the same scene: the shuffled-video control.
    """
    video = human_video(world.get_state(), video_task or task, video_seed)
    policy.start(video.frames)
    world.begin_stage(task)
    frames: list[NDArray[np.uint8]] = []
    streak = ticks = 0
    for _tick in range(max_ticks):
        seen = world.observe()
        frames.append(seen.image)
        state = [*seen.ee_position_m, seen.gripper_opening]
        chunk, terminate = policy.act(seen.image, state)
        streak = streak + 1 if terminate >= TERMINATE_THRESHOLD else 0
        if streak >= TERMINATE_DEBOUNCE:
            break
        world.step(chunk.values[0].astype(float), float(chunk.gripper[0]))
        ticks += 1
    return StageResult(
        task, world.success(), world.success_once, streak >= TERMINATE_DEBOUNCE, ticks, frames
    )
