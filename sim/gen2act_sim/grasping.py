"""Scripted experts that take a loose object between the fingers and carry it somewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gen2act_sim.kinematics import Kinematics
from gen2act_sim.motions import fading, funnel, toward
from gen2act_sim.scenes import F64

_LYING_M = 0.075  # an object whose grasp is lower than this lies on the table


def _grasp(
    kin: Kinematics, grasp_m: F64, *, held_opening: float, top_m: float
) -> tuple[F64, bool] | None:
    """Come down on an object with open fingers and close them; None once it is held.

    Args:
        kin: view of the state.
        grasp_m: where the hand shall be to close [3].
        held_opening: the gripper is less open than this when the object is between the fingers.
        top_m: height above the grasp at which the hand travels [m].
    """
    hand = kin.hand_m
    aside = float(np.linalg.norm((hand - grasp_m)[:2]))
    above = float(hand[2] - grasp_m[2])
    opening = kin.gripper_opening
    # Pads are 3 cm wide: shut off-centre they hold little, and the object turns or slips.
    askew = aside > 0.016 and grasp_m[2] < _LYING_M
    if opening < held_opening and abs(above) < 0.045 and aside < 0.045 and not askew:
        return None
    if abs(above) < 0.035 and aside < 0.03:
        centred = max(aside, abs(above)) < 0.01
        shut = not askew and (centred or opening < 0.95)
        return (0.6 if shut else 1.0) * toward(hand, grasp_m, 15.0), shut
    if above < 0.06 and aside < 0.06 and opening < 0.9:
        return np.zeros(3), False  # lost it: let go before rising
    return funnel(hand, grasp_m, top_m=top_m), False


def _score(kin: Kinematics) -> tuple[F64, bool]:
    """Take the ball, lift it in front of the hoop and hold it above."""
    ball, goal = kin.object_m, kin.hoop_m + np.array([0.0, 0.0, 0.005])
    motion = _grasp(kin, ball + np.array([0.0, 0.0, 0.035]), held_opening=0.68, top_m=0.08)
    if motion is not None:
        return motion
    # Rising under the rim the wrist would meet it: the lower, the further in front.
    low = 1.0 - fading(float(goal[2] - ball[2]), 0.02, 0.08)
    carried = toward(ball, goal - np.array([0.0, 0.14 * low, 0.0]), 12.0)
    carried[0] *= 1.0 - low
    carried[1] = min(carried[1], 1.0 - low)
    return carried * (0.7, 0.7, 1.0), True


def _place_on_shelf(kin: Kinematics) -> tuple[F64, bool]:
    """Take the block, lift it in front of the shelf's middle and push it in."""
    block = kin.object_m
    motion = _grasp(kin, block + np.array([0.0, 0.0, 0.035]), held_opening=0.5, top_m=0.08)
    if motion is not None:
        return motion
    goal = kin.shelf_goal_m + np.array([0.0, -0.03, -0.01])
    motion_m = toward(block, goal, 12.0)
    missing = float(goal[2] - block[2]) + abs(float(goal[0] - block[0]))
    motion_m[1] *= fading(missing, 0.02, 0.07)
    return motion_m, True


def _hammer(kin: Kinematics) -> tuple[F64, bool]:
    """Take the hammer by its handle, bring its head before the nail and drive it in."""
    along = kin.object_axes[:, 0]
    grip = kin.object_m - 0.04 * along + np.array([0.0, 0.0, 0.035])
    motion = _grasp(kin, grip, held_opening=0.62, top_m=0.08)
    if motion is not None:
        return motion
    head = kin.object_m + 0.16 * along
    nail = kin.body_m("nail_link")
    aside = (nail - head)[[0, 2]]
    push = toward(head, nail, 12.0)
    wanted_y = (
        nail[1] + 0.04 - 0.15 * float(np.clip((np.abs(aside).max() - 0.015) / 0.04, 0.0, 1.0))
    )
    push[1] = float(np.clip(12.0 * (wanted_y - head[1]), -1.0, 1.0))
    return push, True


def _assemble(kin: Kinematics) -> tuple[F64, bool]:
    """Take the nut by its handle, bring its ring over the peg and let it down."""
    ring = kin.object_m
    handle = kin.site_m("RoundNut-8")
    grip = handle + np.array([-0.02, 0.0, 0.035])
    motion = _grasp(kin, grip, held_opening=0.58, top_m=0.08)
    if motion is not None:
        return motion
    peg_top = kin.fixture_m + np.array([0.0, 0.0, 0.05])
    aside = float(np.linalg.norm((peg_top - ring)[:2]))
    lift = float(np.clip((aside - 0.008) / 0.01, 0.0, 1.0))
    target = np.array([peg_top[0], peg_top[1], peg_top[2] - 0.05 + 0.11 * lift])
    push = toward(ring, target, 12.0)
    missing = float(peg_top[2] + 0.05 - ring[2]) if aside > 0.02 else 0.0
    push[:2] *= float(np.clip(1.0 - missing / 0.05, 0.0, 1.0))
    return push, True


EXPERTS: dict[str, Callable[[Kinematics], tuple[F64, bool]]] = {
    "basketball": _score,
    "shelf-place": _place_on_shelf,
    "hammer": _hammer,
    "assembly": _assemble,
}
