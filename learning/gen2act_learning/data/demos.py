"""Demonstrations from the simulator's scripted experts, with paired human videos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen2act_sim import TASKS, DemonstrationFailed, World, human_video, robot_demo
from gen2act_sim.rendering import project

from .episodes import Episode, jpeg_round_trip

TRACKED_POINTS = 16
# Seeds below this are for evaluation only; no demonstration may use them.
FIRST_TRAINING_SEED = 10_000

_worlds: dict[str, World] = {}


def world_for(scene: str, seed: int) -> World:
    """One world per scene and process: building a scene costs more than resetting it."""
    if scene in _worlds:
        _worlds.pop(scene).close()
    _worlds[scene] = World(scene, seed)
    return _worlds[scene]


def with_landmarks(hand_m: NDArray[Any], landmarks_m: NDArray[Any], prefix: str) -> dict[str, Any]:
    """Positions [T, 3] of the hand and [T, 2, 3] of a scene's landmarks as arrays of an Episode."""
    points = np.concatenate([hand_m[:, None], landmarks_m], axis=1)
    pixels, _ = project(points, 1)  # of a picture of side 1; its pixel centre lies at 0
    return {
        f"{prefix}landmarks_m": points.astype(np.float32),
        f"{prefix}landmarks_uv": (pixels + 0.5).astype(np.float32),
    }


def video_arrays(state: bytes, task: str, seed: int, rng: np.random.Generator) -> dict[str, Any]:
    """The human video of ``state`` as the arrays of an :class:`Episode`."""
    video = human_video(state, task, seed, points=TRACKED_POINTS)
    side = video.frames.shape[1]
    return {
        "video": jpeg_round_trip(video.frames, rng),
        "hand_position_m": video.hand_positions_m.astype(np.float32),
        "hand_closed": np.asarray(video.hand_closed, np.float32),
        **with_landmarks(video.hand_positions_m, video.landmarks_m, "video_"),
        "points": (video.points0_px / side).astype(np.float32),
        "tracks": (video.tracks_px / side).astype(np.float32),
        "visible": np.asarray(video.visible, bool),
    }


def make_demo(task: str, seed: int) -> Episode | None:
    """One paired episode; None when an expert failed."""
    if seed < FIRST_TRAINING_SEED:
        raise ValueError(f"seed {seed} is reserved for evaluation (< {FIRST_TRAINING_SEED})")
    rng = np.random.default_rng(seed)
    world = world_for(TASKS[task].scene, seed)
    world.reset(task)
    state = world.get_state()
    try:
        noise = float(rng.choice([0.0, 0.01, 0.02, 0.03]))
        demo = robot_demo(world, task, seed, noise=noise, points=TRACKED_POINTS)
        arrays = video_arrays(state, task, seed + 1, rng)
    except DemonstrationFailed:
        return None
    if not demo.success:
        return None
    assert demo.tracks is not None
    return Episode(
        task=TASKS[task].instruction,
        images=jpeg_round_trip(demo.images, rng),
        ee_position_m=demo.ee_position_m.astype(np.float32),
        gripper_opening=np.asarray(demo.gripper_opening, np.float32),
        actions_m=demo.actions_m.astype(np.float32),
        gripper_closed=np.asarray(demo.gripper_closed, np.float32),
        terminate=np.asarray(demo.terminate, np.float32),
        **with_landmarks(demo.ee_position_m, demo.landmarks_m, ""),
        robot_tracks=(demo.tracks.tracks_px / demo.images.shape[1]).astype(np.float32),
        robot_visible=demo.tracks.visible,
        **arrays,
    )
