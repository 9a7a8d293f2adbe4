"""Robot demonstrations for training: the expert through the policy's own interface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gen2act_sim.landmarks import landmarks_m
from gen2act_sim.rendering import U8, renderer_for
from gen2act_sim.scenes import F64
from gen2act_sim.tracks import Tracker, Tracks
from gen2act_sim.world import DELTA_LIMIT_M, World

_NOISY_PART = 0.35  # share of ticks whose executed action is disturbed


@dataclass(frozen=True)
class RobotEpisode:
    """T ticks: what was seen *before* each tick and what the expert would do there."""

    images: U8  # [T, S, S, 3]
    ee_position_m: F64  # tool centre, world frame [T, 3]
    gripper_opening: F64  # 0 shut .. 1 open [T]
    actions_m: F64  # clean expert displacement [T, 3]
    gripper_closed: F64  # clean expert gripper command, 0 or 1 [T]
    terminate: npt.NDArray[np.bool_]  # the expert has nothing left to do [T]
    landmarks_m: F64  # see gen2act_sim.landmarks [T, 2, 3]
    success: bool
    tracks: Tracks | None = None


def robot_demo(
    world: World,
    task: str,
    seed: int,
    *,
    noise: float,
    max_ticks: int = 40,
    rest_ticks: int = 4,
    points: int = 0,
) -> RobotEpisode:
    """The expert does `task` from the world's present state, which it changes.

    Args:
        world: usually at the reset pose; `begin_stage(task)` is called here.
        task: task id of the world's scene.
        seed: of the disturbances.
        noise: in a third of the ticks the executed displacement is the label plus Gaussian noise
            of this standard deviation [m]; 0 for none. Labels stay clean, so they teach recovery.
        max_ticks: give up after so many.
        rest_ticks: ticks of holding still after the expert is done, labelled terminate.
        points: how many ground-truth tracks to make.

    Raises:
        UnknownTask: not a task of the world's scene.
    """
    world.begin_stage(task)
    rng = np.random.default_rng([seed % 2**64, 0x726F626F])
    renderer = renderer_for(world.scene, world.image_size)
    tracker = Tracker(renderer, world.physics.model, world.mj_data, points, rng) if points else None
    images, positions, openings = [], [], []
    actions, grips, ends, landmarks = [], [], [], []
    resting = 0
    for _ in range(max_ticks):
        seen = world.observe()
        done = world.expert_done()
        delta, closed = world.expert_action()
        images.append(seen.image)
        positions.append(seen.ee_position_m)
        openings.append(seen.gripper_opening)
        actions.append(delta)
        grips.append(closed)
        ends.append(done)
        landmarks.append(landmarks_m(world.kin))
        if tracker is not None:
            tracker.add(world.mj_data, robot=True)
        executed = delta
        if noise > 0 and not done and rng.random() < _NOISY_PART:
            executed = np.clip(delta + rng.normal(0.0, noise, 3), -DELTA_LIMIT_M, DELTA_LIMIT_M)
        world.step(executed, closed)
        resting = resting + 1 if done else 0
        if resting >= rest_ticks:
            break
    return RobotEpisode(
        np.stack(images),
        np.stack(positions),
        np.array(openings),
        np.stack(actions),
        np.array(grips),
        np.array(ends),
        np.stack(landmarks),
        success=world.success(),
        tracks=None if tracker is None else tracker.result(),
    )
