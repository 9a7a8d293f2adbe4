"""Scripted experts: from any state to the next small motion.

Memoryless, so they label any state, and nearly continuous in the hand's position: a policy that
learns them from pictures is off by some millimetres, and where an expert turns from "down" to "up"
within that, the policy hovers. Meta-World's own policies do, and their environments would have to
be reset, which a chain of stages forbids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gen2act_sim import grasping, pressing
from gen2act_sim.kinematics import Kinematics
from gen2act_sim.motions import approach, fading, funnel, toward
from gen2act_sim.scenes import F64


def _there(hand_m: F64, start_m: F64) -> float:
    """How much the hand is where it can push or pull, 0..1."""
    off = hand_m - start_m
    aside = float(np.linalg.norm(off[:2]))
    return fading(abs(float(off[2])), 0.015, 0.04) * fading(aside, 0.035, 0.065)


def _faucet(kin: Kinematics, opening: bool) -> tuple[F64, bool]:
    """Push the handle around its axis, the fingers shut and beside it at 12 cm from the axis."""
    angle = kin.fixture_q  # 0: handle points at the robot (-y), grows towards +x
    radial = np.array([np.sin(angle), -np.cos(angle), 0.0])
    tangent = np.array([np.cos(angle), np.sin(angle), 0.0])  # direction of growing angle
    sign = 1.0 if opening else -1.0
    axis = kin.fixture_m + np.array([0.0, 0.0, 0.155])
    contact = axis + 0.125 * radial
    beside = contact - sign * 0.05 * tangent
    motion = funnel(kin.hand_m, beside, top_m=0.12, inner_m=0.03, outer_m=0.065)
    push = toward(kin.hand_m, contact + sign * 0.06 * tangent, 25.0)
    return motion + _there(kin.hand_m, beside) * (push - motion), True


def _move_mug(kin: Kinematics, goal_m: F64) -> tuple[F64, bool]:
    """Take the mug between the fingers, slide it to goal_m [3] and keep holding it."""
    hand, mug = kin.hand_m, kin.object_m
    grasp = mug + np.array([0.0, 0.0, 0.065])
    # Under the overhang the wrist meets the machine: take a mug that is in deep off its centre.
    grasp[1] = max(mug[1] - 0.014, min(mug[1], kin.fixture_m[1] - 0.25))
    aside = float(np.linalg.norm((hand - grasp)[:2]))
    above = float(hand[2] - grasp[2])
    opening = kin.gripper_opening
    if above < 0.03 and aside < 0.035:
        # Pads are 3 cm wide: shut off-centre they squeeze the mug out sideways. The hand lags the
        # command by up to 2 cm when it comes down, so wait for it.
        centred = abs(float(hand[0] - grasp[0])) < 0.01 and above < 0.02
        if opening > 0.95 and not centred:
            return toward(hand, grasp, 15.0), False
        if opening > 0.75:
            return 0.5 * toward(hand, grasp, 15.0), True
        motion = 10.0 * (goal_m - mug)
        motion[2] = 10.0 * (goal_m[2] + 0.065 - hand[2])
        # Together, not axis by axis: friction alone must carry the sideways part.
        return motion * min(1.0, 0.6 / max(float(np.abs(motion).max()), 1e-9)), True
    if above < 0.06 and opening < 0.9:
        return np.zeros(3), False  # lost it: let go before rising, or the mug comes along
    # The fingers reach 5 cm below the hand and the mug is 7 cm high: travel above its rim.
    return funnel(hand, grasp, top_m=0.11), False


def _close_door(kin: Kinematics) -> tuple[F64, bool]:
    """Over the open door to its outer face, down, and push it home 22 cm from the hinge."""
    angle = kin.fixture_q  # 0 shut, -pi/2 open
    hinge = kin.body_m("door_link")
    along = np.array([np.cos(angle), np.sin(angle), 0.0])
    outward = np.array([np.sin(angle), -np.cos(angle), 0.0])
    hand = kin.hand_m
    relative = hand - hinge
    reach, distance = float(relative @ along), float(relative @ outward)
    low = np.array([0.0, 0.0, 0.19 - hinge[2]])
    if hand[2] < 0.25 and 0.10 < reach < 0.32 and 0.0 < distance < 0.13:
        target = hinge + 0.22 * along - 0.02 * outward + low
        return 0.8 * toward(hand, target, 25.0), True
    beside = hinge + 0.22 * along + 0.085 * outward + low
    if float(np.linalg.norm((hand - beside)[:2])) < 0.03:
        return toward(hand, beside, 25.0), True
    beside[2] = 0.38  # the door's top is at 0.27 m, the fingers reach 5 cm below the hand
    if hand[2] < 0.345:
        beside[:2] = hand[:2]
    return toward(hand, beside, 25.0), True


def _slide_window(kin: Kinematics, opening: bool) -> tuple[F64, bool]:
    """Beside the window's handle from above, then push it along x."""
    sign = 1.0 if opening else -1.0
    handle = kin.site_m("handleOpenStart" if opening else "handleCloseStart")
    beside = handle + np.array([-0.03 * sign, -0.03, -0.08])
    motion = funnel(kin.hand_m, beside, top_m=0.2, inner_m=0.035, outer_m=0.1)
    motion[0] += (sign - motion[0]) * _there(kin.hand_m, beside)
    return motion, True


def _open_drawer(kin: Kinematics) -> tuple[F64, bool]:
    """One of the open fingers behind the handle, then pull."""
    grip = kin.body_m("drawer_link") + np.array([0.0, -0.16, -0.02])
    motion = funnel(kin.hand_m, grip, top_m=0.1, inner_m=0.025, outer_m=0.065)
    motion[1] += (-1.0 - motion[1]) * _there(kin.hand_m, grip)
    return motion, False


def _close_drawer(kin: Kinematics) -> tuple[F64, bool]:
    """Push the handle home from in front, the fingers shut."""
    contact = kin.body_m("drawer_link") + np.array([0.0, -0.18, 0.03])
    return approach(kin.hand_m, contact, past_m=0.05, standoff_m=0.08), True


def _press_coffee_button(kin: Kinematics) -> tuple[F64, bool]:
    """The wrist against the button: the fingers stay below it, above the mug."""
    contact = kin.site_m("buttonStart") + np.array([0.0, -0.05, -0.07])
    return approach(kin.hand_m, contact, past_m=0.1, standoff_m=0.12), False


def _open_door(kin: Kinematics) -> tuple[F64, bool]:
    """The shut fingers down behind the handle's edge, then push it along its arc."""
    hand, handle = kin.hand_m, kin.geom_m("handle")
    push = handle + np.array([-0.05, 0.0, 0.0])
    off = hand - push
    height = 0.18 * (1.0 - fading(float(np.linalg.norm(off[:2])), 0.09, 0.14))
    missing = height - float(off[2])
    low = fading(abs(float(off[2])), 0.02, 0.06)
    edge = handle + np.array([0.01, 0.02, height])
    motion = toward(hand, low * push + (1.0 - low) * edge, 25.0)
    motion[:2] *= fading(missing, 0.01, 0.05)
    return motion, True


def control(kin: Kinematics, task: str, pull_goal_m: F64) -> tuple[F64, bool]:
    """The expert's motion for one simulator step.

    Returns:
        displacement in units of 1 cm, within [-1, 1] per axis [3], and whether to close the
        gripper.
    """
    match task:
        case "coffee-push" | "coffee-pull":
            return _move_mug(kin, kin.parking_m if task == "coffee-push" else pull_goal_m)
        case "faucet-open" | "faucet-close":
            return _faucet(kin, opening=task == "faucet-open")
        case "window-open" | "window-close":
            return _slide_window(kin, opening=task == "window-open")
    return _EXPERTS[task](kin)


_EXPERTS: dict[str, Callable[[Kinematics], tuple[F64, bool]]] = {
    "coffee-button": _press_coffee_button,
    "drawer-open": _open_drawer,
    "drawer-close": _close_drawer,
    "door-open": _open_door,
    "door-close": _close_door,
    **pressing.EXPERTS,
    **grasping.EXPERTS,
}
