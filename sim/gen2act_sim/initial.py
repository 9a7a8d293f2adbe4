"""What the seed decides: where fixtures and objects are, and what earlier stages left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gen2act_sim.kinematics import MUG_AT_MACHINE_M, MUG_PARKED_M, Kinematics
from gen2act_sim.scenes import F64


@dataclass(frozen=True)
class Variation:
    """Seeded geometry of one scene instance, the same for every stage of a chain."""

    fixture_m: F64  # position of the scene's fixture [3]
    object_start_m: F64  # where the loose object lies at first [3] (zeros where there is none)
    pull_goal_m: F64  # coffee: where the mug should stand after coffee-pull [3] (else zeros)


# Joint positions of what can be opened: shut, how far it may stand ajar, and range when open.
_CLOSED = {"drawer": 0.0, "door": 0.0, "window": 0.0, "faucet": 0.02}
_AJAR = {"drawer": -0.008, "door": -0.03, "window": 0.02, "faucet": 0.12}
_OPENED = {
    "drawer": (-0.16, -0.15),
    "door": (-1.5, -1.4),
    "window": (0.19, 0.2),
    "faucet": (1.25, 1.55),
}
_OBJECT_YAW = {"assembly": np.pi / 2}  # the nut's handle points along x


def draw_variation(scene: str, rng: np.random.Generator) -> Variation:
    """Meta-World's reset distributions."""
    none = np.zeros(3)
    match scene:
        case "coffee":
            place = np.array([*rng.uniform((-0.05, 0.70), (0.05, 0.75)), 0.0])
            return Variation(place - MUG_AT_MACHINE_M, _mug_spot(rng, place), _mug_spot(rng, place))
        case "drawer":
            return Variation(np.array([rng.uniform(-0.1, 0.1), 0.9, 0.0]), none, none)
        case "door":
            return Variation(np.array([*rng.uniform((0.0, 0.85), (0.1, 0.95)), 0.15]), none, none)
        case "window":
            return Variation(np.array([*rng.uniform((-0.1, 0.75), (0.1, 0.9)), 0.2]), none, none)
        case "faucet":
            return Variation(np.array([*rng.uniform((-0.05, 0.80), (0.05, 0.85)), 0.0]), none, none)
        case "basketball":
            ball = np.array([*rng.uniform((-0.1, 0.6), (0.1, 0.7)), 0.03])
            return Variation(np.array([*rng.uniform((-0.1, 0.85), (0.1, 0.9)), 0.0]), ball, none)
        case "shelf":
            block = np.array([*rng.uniform((-0.1, 0.5), (0.1, 0.6)), 0.02])
            return Variation(np.array([*rng.uniform((-0.1, 0.8), (0.1, 0.9)), 0.0]), block, none)
        case "button":
            return Variation(np.array([*rng.uniform((-0.1, 0.85), (0.1, 0.9)), 0.115]), none, none)
        case "button-topdown":
            return Variation(np.array([*rng.uniform((-0.1, 0.8), (0.1, 0.9)), 0.115]), none, none)
        case "handle":
            return Variation(np.array([*rng.uniform((-0.1, 0.8), (0.1, 0.9)), 0.0]), none, none)
        case "hammer":
            hammer = np.array([*rng.uniform((-0.1, 0.4), (0.1, 0.5)), 0.04])
            return Variation(np.array([0.24, 0.85, 0.0]), hammer, none)
        case "assembly":
            peg = np.array([*rng.uniform((-0.1, 0.75), (0.1, 0.85)), 0.05])
            return Variation(peg, np.array([0.0, 0.6, 0.02]), none)
    raise KeyError(scene)


def _mug_spot(rng: np.random.Generator, place_m: F64) -> F64:
    """A point in front of the machine, at least 15 cm from the mug's place under it [3]."""
    while True:
        spot = np.array([*rng.uniform((-0.1, 0.55), (0.1, 0.65)), 0.0])
        if float(np.linalg.norm(spot - place_m)) >= 0.15:
            return spot


def initial_qpos(
    kin: Kinematics,
    settled_qpos: F64,
    task: str,
    variation: Variation,
    rng: np.random.Generator,
) -> F64:
    """Joint positions from which `task` starts [nq].

    For second and third stages this is what the stage before may have left behind.
    """
    qpos = settled_qpos.copy()
    if kin.object_qpos is not None:
        place, yaw = variation.object_start_m, _OBJECT_YAW.get(kin.scene, 0.0)
        if kin.scene == "coffee":
            if task != "coffee-push":
                place = variation.fixture_m + MUG_PARKED_M
                place = place + np.array([*rng.uniform((-0.015, -0.03), (0.015, 0.02)), 0.0])
            yaw = rng.uniform(-0.4, 0.4)
        first = kin.object_qpos
        qpos[first : first + 3] = place
        qpos[first + 3 : first + 7] = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    if kin.fixture_qpos is not None:
        qpos[kin.fixture_qpos] = _fixture_start(kin.scene, task, rng)
    return qpos


def _fixture_start(scene: str, task: str, rng: np.random.Generator) -> float:
    """Where the fixture's joint is when `task` begins [m or rad]."""
    if scene not in _OPENED:
        return 0.0
    if task.endswith("-close"):
        return float(rng.uniform(*_OPENED[scene]))
    return _CLOSED[scene] + _AJAR[scene] * float(rng.uniform(0.0, 1.0))
