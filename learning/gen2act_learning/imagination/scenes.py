"""Training scenes from the simulator: picture with the robot, picture without, what then moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gen2act_sim import TASKS, World
from gen2act_sim.human import finger_offset
from gen2act_sim.rendering import SceneRenderer, project, renderer_for, unproject

from ..data.demos import FIRST_TRAINING_SEED
from ..data.episodes import jpeg_round_trip

MOMENTS = 32  # L: samples of a motion, evenly spaced in time, the first and last included
PICTURES = 6  # K: of these, moments with a picture; the last is always the motion's end
IMAGE_SIZE = 224  # S [px]
PICTURE_SIZE = 112  # side of the K pictures [px]
_SPEED = 0.85  # of the expert's, as people are on average
_REST_STEPS = 10  # the hand stays for a moment when it is done
_MAX_STEPS = 260
_MOVED_M = 0.004  # a body that no point of moves further is no moved object

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One scene and the motion that fulfils a task in it. Positions in the world frame [m]."""

    task: str
    seed: int
    scene: U8  # [S, S, 3] what the robot sees at its reset pose, after a JPEG round trip
    plate: U8  # [S, S, 3] the same without the robot
    hand_m: F32  # [L, 3] point between the finger tips
    opening: F32  # [L] 0 shut .. 1 open
    object_px: F32  # [L, 2] centre of the moved object's visible part, (x, y) of S
    picture_moment: NDArray[np.int64]  # [K] index into L
    pictures: U8  # [K, P, P, 3] neither robot nor hand
    depths_m: NDArray[np.float16]  # [K, P, P] along the optical axis


_FIELDS = tuple(Scene.__dataclass_fields__)


def save(scene: Scene, folder: Path) -> None:
    """Written under another name first: a file that is there is complete."""
    name = f"{scene.task}-{scene.seed}.npz"
    temporary = folder / f".{name}.tmp.npz"
    np.savez(temporary, **{key: getattr(scene, key) for key in _FIELDS})
    temporary.rename(folder / name)


def load(path: Path) -> Scene:
    with np.load(path) as data:
        values: dict[str, Any] = {key: data[key] for key in _FIELDS}
    return Scene(**{**values, "task": str(values["task"]), "seed": int(values["seed"])})


def make_scene(world: World, task: str, seed: int) -> Scene | None:
    """A scene of `task`; None when its expert fails there. The world is reset first."""
    world.seed = seed
    world.reset(task)
    data, model = world.mj_data, world.physics.model
    renderer = renderer_for(world.scene, IMAGE_SIZE)
    rng = np.random.default_rng([seed, 0x7363656E])
    picture = jpeg_round_trip(world.observe().image[None], rng)[0]
    plate = renderer.rgb(data, robot=False)
    points = _movable_points(renderer, model, data)

    offset_m, shut = finger_offset(task)
    vectors, hands, openings, centres = [], [], [], []
    rest = _REST_STEPS
    for _ in range(_MAX_STEPS):
        vectors.append(world.physics.vector())
        hands.append(world.kin.tool_m + offset_m)
        openings.append(0.0 if shut else world.kin.gripper_opening)
        centres.append({body: _place(data, body, local) for body, local in points.items()})
        if world.expert_done():
            rest -= 1
        if rest == 0:
            break
        delta_m, closed = world.expert_control()
        world.substep(_SPEED * delta_m, closed)
    if not world.success():
        return None
    path_px = _moved_path(centres)
    if path_px is None:
        return None
    order = np.rint(np.linspace(0, len(vectors) - 1, MOMENTS)).astype(np.int64)
    chosen = np.sort(rng.choice(MOMENTS - 1, PICTURES - 1, replace=False))
    chosen = np.append(chosen, MOMENTS - 1)
    pictures, depths = [], []
    for index in order[chosen]:
        world.physics.restore(vectors[index])
        size = (PICTURE_SIZE, PICTURE_SIZE)
        shown = renderer.rgb(data, robot=False)
        pictures.append(cv2.resize(shown, size, interpolation=cv2.INTER_AREA))
        depth = renderer.depth(data, robot=False)
        depths.append(depth[::2, ::2].astype(np.float16))
    return Scene(
        task,
        seed,
        picture,
        plate,
        np.stack(hands)[order].astype(np.float32),
        np.array(openings)[order].astype(np.float32),
        path_px[order].astype(np.float32),
        chosen,
        np.stack(pictures).astype(np.uint8),
        np.stack(depths),
    )


def _movable_points(renderer: SceneRenderer, model: Any, data: Any) -> dict[int, F64]:
    """Visible points of every body that a joint moves, in the body's own frame [n, 3]."""
    geoms = renderer.geom_ids(data)
    depth = renderer.depth(data, robot=False)
    found: dict[int, F64] = {}
    bodies = np.where(geoms >= 0, model.geom_bodyid[np.maximum(geoms, 0)], 0)
    # Bodies welded together move as one: the root of each rigid group stands for it.
    roots = np.where(bodies > 0, model.body_weldid[bodies], 0)
    for body in np.unique(roots[roots > 0]):
        rows = np.argwhere(roots == body)
        pixels = rows[:, ::-1].astype(np.float64)
        world_m = unproject(pixels, depth[rows[:, 0], rows[:, 1]], renderer.image_size)
        rotation = data.xmat[body].reshape(3, 3)
        found[int(body)] = (world_m - data.xpos[body]) @ rotation
    return found


def _place(data: Any, body: int, local_m: F64) -> F64:
    """Centre of a body's points in the world [3]."""
    centre: F64 = data.xpos[body] + data.xmat[body].reshape(3, 3) @ local_m.mean(axis=0)
    return centre


def _moved_path(centres: list[dict[int, F64]]) -> F64 | None:
    """Pixels [T, 2] of the body that moves furthest; None if none does."""
    best, furthest = None, _MOVED_M
    for body in centres[0]:
        path = np.stack([moment[body] for moment in centres])
        distance = float(np.linalg.norm(path - path[0], axis=1).max())
        if distance > furthest:
            best, furthest = path, distance
    return None if best is None else project(best, IMAGE_SIZE)[0]


def make_scenes(tasks: list[str], count: int, first_seed: int, folder: Path) -> tuple[int, int]:
    """Makes what is not there yet; (made or found, dropped because the expert failed).

    Raises:
        ValueError: seeds of evaluation, unless the folder's name says that it is for that.
    """
    if first_seed < FIRST_TRAINING_SEED and "held-out" not in folder.name:
        raise ValueError(
            f"seeds below {FIRST_TRAINING_SEED} are for evaluation; got {first_seed}"
            ' (name the folder "held-out" to make an evaluation set)'
        )
    folder.mkdir(parents=True, exist_ok=True)
    worlds = {scene: World(scene, 0) for scene in {TASKS[task].scene for task in tasks}}
    good = bad = 0
    for seed in range(first_seed, first_seed + count):
        for task in tasks:
            if (folder / f"{task}-{seed}.npz").exists():
                good += 1
                continue
            scene = make_scene(worlds[TASKS[task].scene], task, seed)
            if scene is None:
                bad += 1
            else:
                save(scene, folder)
                good += 1
    return good, bad
