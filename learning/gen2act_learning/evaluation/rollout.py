"""One stage: the policy is given its goal, sees the robot's frames, and acts until it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.spec import ActionChunk
from gen2act_sim import World

Frames = NDArray[np.uint8]  # [N, S, S, 3] RGB

TERMINATE_THRESHOLD = 0.5
TERMINATE_DEBOUNCE = 2  # consecutive ticks, as the orchestrator's stage gate


class ActingPolicy(Protocol):
    """What a rollout needs of a policy; `gen2act_policy.local.LocalPolicy` is one."""

    def start(self, goal: Frames | str) -> None:
        """Begins a rollout that follows the video uint8[N, S, S, 3], or the instruction."""

    def act(
        self, image: NDArray[np.uint8], proprioception: Sequence[float] | None = None
    ) -> tuple[ActionChunk, float]:
        """Action chunk and terminate probability for the newest frame uint8[S, S, 3]."""


@dataclass(frozen=True)
class Rollout:
    """How one stage ended, judged by the simulator."""

    success: bool  # at the end
    success_once: bool
    terminated: bool  # by the policy's own terminate, not by the tick budget
    ticks: int  # that were executed
    frames: Frames  # what the robot saw [ticks + 1 or ticks, S, S, 3]


def rollout(
    world: World, policy: ActingPolicy, task: str, goal: Frames | str, *, max_ticks: int
) -> Rollout:
    """Act from the world as it is now, which is changed.

    The first action of each chunk is executed, as the robot does when the policy keeps up.

    Raises:
        UnknownTask: not a task of the world's scene.
        InvalidAction: the policy's action is not finite.
    """
    policy.start(goal)
    world.begin_stage(task)
    frames: list[NDArray[np.uint8]] = []
    streak = ticks = 0
    while ticks < max_ticks:
        seen = world.observe()
        frames.append(seen.image)
        chunk, terminate = policy.act(seen.image, [*seen.ee_position_m, seen.gripper_opening])
        streak = streak + 1 if terminate >= TERMINATE_THRESHOLD else 0
        if streak >= TERMINATE_DEBOUNCE:
            break
        world.step(chunk.values[0].astype(float), float(chunk.gripper[0]))
        ticks += 1
    return Rollout(
        success=world.success(),
        success_once=world.success_once,
        terminated=streak >= TERMINATE_DEBOUNCE,
        ticks=ticks,
        frames=np.stack(frames),
    )
