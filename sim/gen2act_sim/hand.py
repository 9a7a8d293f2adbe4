"""A person's hand, forearm and sleeve, drawn as extra geoms in a render scene (no physics).

The hand follows the tool centre of the invisible robot and closes with its gripper: fingers on one
side, thumb on the other, along the gripper's opening axis (world y).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gen2act_sim.gl import mujoco
from gen2act_sim.scenes import F64

F32 = npt.NDArray[np.float32]

_SKINS = (
    (0.96, 0.80, 0.69),
    (0.90, 0.70, 0.56),
    (0.80, 0.58, 0.44),
    (0.63, 0.43, 0.31),
    (0.45, 0.30, 0.21),
    (0.33, 0.21, 0.15),
)
_SLEEVES = (
    (0.15, 0.25, 0.55),
    (0.75, 0.75, 0.78),
    (0.12, 0.12, 0.14),
    (0.20, 0.45, 0.30),
    (0.80, 0.65, 0.20),
    (0.45, 0.20, 0.50),
    (0.35, 0.50, 0.70),
)


def _unit(vector: F64) -> F64:
    result: F64 = vector / np.linalg.norm(vector)
    return result


@dataclass(frozen=True)
class HandStyle:
    """Looks and posture of one person."""

    skin: tuple[float, float, float]
    sleeve: tuple[float, float, float]
    scale: float  # 1 = an adult's hand
    forearm: F64  # unit vector from wrist to elbow, world frame [3]
    sleeve_start_m: float  # bare forearm from the wrist to here

    @classmethod
    def draw(cls, rng: np.random.Generator) -> HandStyle:
        """A random person, standing where the robot's base is."""
        skin = np.array(_SKINS[rng.integers(len(_SKINS))]) + rng.normal(0, 0.02, 3)
        sleeve = np.array(_SLEEVES[rng.integers(len(_SLEEVES))]) + rng.normal(0, 0.04, 3)
        r, g, b = np.clip(skin, 0.05, 1.0)
        sr, sg, sb = np.clip(sleeve, 0.03, 1.0)
        forearm = np.array([rng.uniform(-0.35, 0.15), -0.8, rng.uniform(0.45, 0.75)])
        return cls(
            (float(r), float(g), float(b)),
            (float(sr), float(sg), float(sb)),
            float(rng.uniform(0.92, 1.08)),
            _unit(forearm),
            float(rng.uniform(0.05, 0.13)),
        )


def _geom(scene: Any) -> Any:
    if scene.ngeom >= scene.maxgeom:
        raise RuntimeError("the render scene has no room for the hand; raise max_geom")
    geom = scene.geoms[scene.ngeom]
    scene.ngeom += 1
    return geom


def _capsule(scene: Any, start: F64, end: F64, radius_m: float, rgba: F32) -> None:
    geom = _geom(scene)
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
    mujoco.mjv_connector(geom, kind, radius_m, start, end)
    geom.specular, geom.shininess, geom.reflectance = 0.1, 0.1, 0.0


def _ellipsoid(scene: Any, centre: F64, size_m: F64, axes: F64, rgba: F32) -> None:
    geom = _geom(scene)
    kind = mujoco.mjtGeom.mjGEOM_ELLIPSOID
    mujoco.mjv_initGeom(geom, kind, size_m, centre, axes.ravel(), rgba)
    geom.specular, geom.shininess, geom.reflectance = 0.1, 0.1, 0.0


def draw_hand(scene: Any, tool_m: F64, opening: float, style: HandStyle) -> None:
    """Adds the hand to a render scene.

    Args:
        scene: an updated MjvScene.
        tool_m: point between finger tips and thumb tip, world frame [3].
        opening: 0 shut .. 1 open.
        style: looks.
    """
    skin = np.array([*style.skin, 1.0], dtype=np.float32)
    cloth = np.array([*style.sleeve, 1.0], dtype=np.float32)
    k = style.scale
    # Axes of the hand: from the tips to the wrist, along the grip, across the fingers.
    up = _unit(np.array([0.0, -0.35, 1.0]))
    grip = _unit(np.array([0.0, 1.0, 0.0]) - up[1] * up)
    across = np.cross(up, grip)
    gap = 0.008 + 0.036 * opening

    def at(a: float, g: float, u: float) -> F64:
        return tool_m + k * (a * across + u * up) + g * grip

    knuckle_grip = 0.020
    for side, length in ((-1.5, 0.9), (-0.5, 1.0), (0.5, 0.97), (1.5, 0.8)):
        spread = 0.0185 * side
        knuckle = at(spread, knuckle_grip, 0.085)
        middle = at(spread * 0.95, gap + 0.022, 0.085 - 0.043 * length)
        tip = at(spread * 0.75, gap, 0.004 + 0.028 * (1.0 - length) * 2)
        _capsule(scene, knuckle, middle, 0.0098 * k, skin)
        _capsule(scene, middle, tip, 0.0085 * k, skin)
    thumb_root = at(-0.030, -0.010, 0.098)
    thumb_middle = at(-0.026, -gap - 0.016, 0.055)
    thumb_tip = at(-0.006, -gap, 0.010)
    _capsule(scene, thumb_root, thumb_middle, 0.0125 * k, skin)
    _capsule(scene, thumb_middle, thumb_tip, 0.0105 * k, skin)
    wrist = at(0.0, -0.004, 0.160)
    _ellipsoid(
        scene,
        at(0.0, 0.006, 0.112),
        k * np.array([0.043, 0.022, 0.047]),
        np.stack([across, grip, up], axis=1),
        skin,
    )
    _capsule(scene, at(0.0, 0.0, 0.125), wrist, 0.027 * k, skin)
    cuff = wrist + style.sleeve_start_m * style.forearm
    _capsule(scene, wrist, cuff + 0.03 * style.forearm, 0.027 * k, skin)
    _capsule(scene, cuff, cuff + 0.09 * style.forearm, 0.037 * k, cloth)
    _capsule(scene, cuff + 0.06 * style.forearm, cuff + 0.7 * style.forearm, 0.043 * k, cloth)
