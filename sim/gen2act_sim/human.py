"""The demonstrator: a video of a person's hand doing a task from a given state.

The robot's expert does the task invisibly and the hand is drawn where the gripper is. So that the
video is not the robot's motion repainted, the seed varies where the hand comes from, how fast it
goes and when, how it approaches, and who the person is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gen2act_sim.errors import DemonstrationFailed
from gen2act_sim.hand import HandStyle, draw_hand
from gen2act_sim.landmarks import landmarks_m
from gen2act_sim.physics import STEP_LIMIT_M
from gen2act_sim.rendering import U8, renderer_for
from gen2act_sim.scenes import F64
from gen2act_sim.state import decode_state
from gen2act_sim.tracks import Tracker
from gen2act_sim.world import World

_MAX_STEPS = 260  # simulator steps (80 Hz) after which the demonstrator gives up
_SIM_HZ = 80.0
_PLAYBACK_SLOWDOWN = 3.0  # a person is slower than the 80 Hz expert


# The robot presses with its wrist and pushes the window with its palm; a person uses the fingers.
# Where they are relative to the robot's tool centre [m], and whether they are kept shut.
_FINGERS: dict[str, tuple[F64, bool]] = {
    "coffee-button": (np.array([0.0, 0.05, 0.11]), True),
    "window-open": (np.array([0.0, 0.0, 0.10]), True),
    "window-close": (np.array([0.0, 0.0, 0.10]), True),
}


def finger_offset(task: str) -> tuple[F64, bool]:
    """Where a person's finger tips are relative to the robot's tool centre [3] [m], and whether
    they are kept shut."""
    return _FINGERS.get(task, (np.zeros(3), False))


# Without the hand these would not stay as they are: a thing falls, a button comes out again.
HAND_STAYS = {
    *("basketball", "shelf-place", "hammer", "assembly"),
    *("coffee-button", "button-press", "button-press-topdown"),
}


@dataclass(frozen=True)
class HumanVideo:
    """N frames of a hand doing a task, with what the simulator knows about them."""

    frames: U8  # [N, S, S, 3] RGB
    fps: float
    hand_positions_m: F64  # point between the finger tips, world frame [N, 3]
    hand_closed: npt.NDArray[np.bool_]  # [N]
    landmarks_m: F64  # see gen2act_sim.landmarks [N, 2, 3]
    points0_px: npt.NDArray[np.float32]  # [P, 2]
    tracks_px: npt.NDArray[np.float32]  # [P, N, 2]
    visible: npt.NDArray[np.bool_]  # [P, N]
    success: bool


@dataclass(frozen=True)
class _Moment:
    vector: F64
    tool_m: F64
    opening: float
    closed: bool


_LOCAL = threading.local()


def _stage_world(scene: str) -> World:
    """This thread's world for demonstrations in a scene (state set before each use)."""
    worlds: dict[str, World] | None = getattr(_LOCAL, "worlds", None)
    if worlds is None:
        worlds = _LOCAL.worlds = {}
    if scene not in worlds:
        worlds[scene] = World(scene, 0)
    return worlds[scene]


def _moment(world: World) -> _Moment:
    kin = world.kin
    return _Moment(world.physics.vector(), kin.tool_m, kin.gripper_opening, world.gripper_commanded)


def _perform(world: World, rng: np.random.Generator) -> list[_Moment]:
    """Every simulator step of the current stage's demonstration, first the given state."""
    moments = [_moment(world)]
    detour = rng.uniform((-0.06, -0.02, -0.06), (0.08, 0.06, 0.03))
    steps = int(rng.integers(4, 9))
    for _ in range(steps):  # come from elsewhere than the robot does
        world.substep(detour / steps, closed=False)
        moments.append(_moment(world))
    speed = rng.uniform(0.7, 1.0)
    wobble = np.zeros(3)
    after = int(rng.integers(6, 16))
    for _ in range(_MAX_STEPS):
        delta_m, closed = world.expert_control()
        if world.expert_done():
            if after == 0:
                break
            after -= 1
        else:
            wobble = 0.9 * wobble + rng.normal(0.0, 0.03, 3) * STEP_LIMIT_M
            delta_m = speed * delta_m + wobble
        world.substep(delta_m, closed)
        moments.append(_moment(world))
    return moments


def _time_warp(count: int, frames: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which of `count` moments each frame shows: increasing, first and last included [frames]."""
    pace = np.exp(rng.normal(0.0, 0.35, 5))
    knots = np.concatenate([[0.0], np.cumsum(pace)])
    times = np.interp(np.linspace(0, 1, frames), np.linspace(0, 1, 6), knots / knots[-1])
    order: npt.NDArray[np.int64] = np.rint(times * (count - 1)).astype(np.int64)
    return order


def human_video(
    state: bytes,
    task: str,
    seed: int,
    *,
    frames: int = 16,
    image_size: int = 224,
    points: int = 0,
) -> HumanVideo:
    """A person doing `task` from the very scene in `state`; same arguments, same video.

    The first frame shows the scene with the hand still outside the picture (or at its edge).

    Args:
        state: from `World.get_state`, usually with the robot at its reset pose.
        task: task id of the state's scene.
        seed: varies timing, approach, skin, sleeve; independent of the scene's seed.
        frames: N.
        image_size: S [px].
        points: how many ground-truth tracks to make (costs a second rendering per frame).

    Raises:
        InvalidState: corrupt state.
        UnknownTask: not a task of that scene.
        DemonstrationFailed: the demonstrator did not reach success from this state.
    """
    scene = decode_state(state).scene
    world = _stage_world(scene)
    world.set_state(state)
    world.begin_stage(task)
    rng = np.random.default_rng([seed % 2**64, 0x68616E64])
    style = HandStyle.draw(rng)
    moments = _perform(world, rng)
    if not world.success():
        raise DemonstrationFailed(
            f"the demonstrator did not fulfil {task!r} from this state (human seed {seed})"
        )
    order = _time_warp(len(moments), frames, rng)
    arrive = rng.uniform(0.15, 0.3)  # fraction of the video in which the hand comes in
    leave = rng.uniform(0.1, 0.2) if rng.random() < 0.5 else 0.0
    away = 0.45 * style.forearm + np.array([-0.1, -0.1, 0.1])
    progress = np.linspace(0.0, 1.0, frames)
    outside = np.clip(1.0 - progress / arrive, 0.0, 1.0) ** 1.5
    if leave and task not in HAND_STAYS:
        # Rise and back off once the task is done; never in the way of what was shown.
        outside = outside + 0.5 * np.clip((progress - 1.0 + leave) / leave, 0.0, 1.0)

    fingers_m, shut = finger_offset(task)
    renderer = renderer_for(scene, image_size)
    data = world.mj_data
    world.physics.restore(moments[0].vector)
    tracker = Tracker(renderer, world.physics.model, data, points, rng) if points else None
    pictures, positions, closed, landmarks = [], [], [], []
    for index, part in zip(order, outside, strict=True):
        moment = moments[index]
        world.physics.restore(moment.vector)
        tool = moment.tool_m + fingers_m + part * away
        opening = 0.0 if shut else moment.opening

        def decorate(drawn: Any, tool: F64 = tool, opening: float = opening) -> None:
            draw_hand(drawn, tool, opening, style)

        pictures.append(renderer.rgb(data, robot=False, decorate=decorate))
        if tracker is not None:
            tracker.add(data, robot=False, decorate=decorate)
        positions.append(tool)
        landmarks.append(landmarks_m(world.kin))
        closed.append(shut or moment.closed)
    duration_s = len(moments) / _SIM_HZ * _PLAYBACK_SLOWDOWN
    if tracker is not None:
        found = tracker.result()
        tracks = (found.points0_px, found.tracks_px, found.visible)
    else:
        tracks = (
            np.zeros((0, 2), np.float32),
            np.zeros((0, frames, 2), np.float32),
            np.zeros((0, frames), bool),
        )
    return HumanVideo(
        np.stack(pictures),
        frames / duration_s,
        np.stack(positions),
        np.array(closed),
        np.stack(landmarks),
        *tracks,
        success=True,
    )
