"""Scripted experts: from any state to the next small motion. Memoryless, so they label any state.

Most are Meta-World's own policies, fed with an observation built here from the state (their
environments would have to be reset, which a chain of stages forbids). Ours are:
the mug's, as Meta-World's drags the mug before the fingers hold it and from our reset pose loses it
half of the time; the faucet's, as closing an open tap does not exist in Meta-World; door-close and
the window's, as Meta-World's lift the hand out of the picture.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from gen2act_sim import grasping, pressing
from gen2act_sim.kinematics import Kinematics
from gen2act_sim.motions import funnel, toward
from gen2act_sim.scenes import F64

_POLICY_NAMES = {
    "coffee-button": "SawyerCoffeeButtonV3Policy",
    "drawer-open": "SawyerDrawerOpenV3Policy",
    "drawer-close": "SawyerDrawerCloseV3Policy",
    "door-open": "SawyerDoorOpenV3Policy",
}


@functools.cache
def _policy(task: str) -> Any:
    from metaworld import policies  # over a second to import, and only experts need it

    return getattr(policies, _POLICY_NAMES[task])()


def _object_and_goal(kin: Kinematics, task: str) -> tuple[F64, F64]:
    """What the task's Meta-World environment would report as object and goal position [3]."""
    none = np.zeros(3)  # these policies do not read the goal
    match task:
        case "coffee-button":
            return kin.site_m("buttonStart"), none
        case "drawer-open":
            return kin.body_m("drawer_link") + np.array([0.0, -0.16, 0.0]), none
        case "drawer-close":
            return kin.body_m("drawer_link") + np.array([0.0, -0.16, 0.05]), none
        case "door-open":
            return kin.geom_m("handle"), none
    raise KeyError(task)


def _faucet(kin: Kinematics, opening: bool) -> tuple[F64, bool]:
    """Push the handle around its axis, the fingers shut and beside it at 12 cm from the axis."""
    angle = kin.fixture_q  # 0: handle points at the robot (-y), grows towards +x
    radial = np.array([np.sin(angle), -np.cos(angle), 0.0])
    tangent = np.array([np.cos(angle), np.sin(angle), 0.0])  # direction of growing angle
    sign = 1.0 if opening else -1.0
    axis = kin.fixture_m + np.array([0.0, 0.0, 0.155])
    contact = axis + 0.125 * radial
    beside = contact - sign * 0.045 * tangent
    hand = kin.hand_m
    behind = -sign * float((hand - contact) @ tangent)  # distance behind the handle [m]
    outward = float((hand - axis) @ radial)
    on_track = 0.005 < behind < 0.085 and 0.07 < outward < 0.18
    above = np.array([0.0, 0.0, 0.1])
    if on_track:
        if hand[2] > axis[2] + 0.03:
            return toward(hand, beside, 25.0), True
        return toward(hand, contact + sign * 0.06 * tangent, 25.0), True
    if hand[2] < axis[2] + 0.03 and behind < 0.03:
        return toward(hand, hand + above, 25.0), True  # wrong side of the handle: rise first
    near = float(np.linalg.norm((hand - beside)[:2])) < 0.02
    return toward(hand, beside if near else beside + above, 25.0), True


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
    """Beside the window's handle from above, then push it along x (Meta-World's, lower)."""
    sign = 1.0 if opening else -1.0
    handle = kin.site_m("handleOpenStart" if opening else "handleCloseStart")
    start = handle + np.array([-0.03 * sign, -0.03, -0.08])
    hand = kin.hand_m
    if float(np.linalg.norm((hand - start)[:2])) > 0.04:
        above = start + np.array([0.0, 0.0, 0.21])
        if hand[2] < start[2] + 0.16:
            above[:2] = hand[:2]
        return toward(hand, above, 25.0), True
    if abs(float(hand[2] - start[2])) > 0.03:
        return toward(hand, start, 25.0), True
    return toward(hand, start + np.array([0.1 * sign, 0.0, 0.0]), 25.0), True


def control(kin: Kinematics, task: str, pull_goal_m: F64) -> tuple[F64, bool]:
    """The expert's motion for one simulator step.

    Returns:
        displacement in units of 1 cm, within [-1, 1] per axis [3], and whether to close the
        gripper.
    """
    if task in ("faucet-open", "faucet-close"):
        return _faucet(kin, opening=task == "faucet-open")
    if task in ("coffee-push", "coffee-pull"):
        return _move_mug(kin, kin.parking_m if task == "coffee-push" else pull_goal_m)
    if task == "door-close":
        return _close_door(kin)
    if task in ("window-open", "window-close"):
        return _slide_window(kin, opening=task == "window-open")
    if task in pressing.EXPERTS:
        return pressing.EXPERTS[task](kin)
    if task in grasping.EXPERTS:
        return grasping.EXPERTS[task](kin)
    obj, goal = _object_and_goal(kin, task)
    observation = np.zeros(39)
    observation[:3] = kin.hand_m
    observation[3] = kin.gripper_opening
    observation[4:7] = obj
    observation[18:36] = observation[:18]
    observation[36:39] = goal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Constant(s) may be too high": clipped below
        action = np.asarray(_policy(task).get_action(observation), dtype=np.float64)
    if task == "drawer-open":
        action[:3] *= 2.5  # Meta-World's gain of 4 takes 22 ticks
    return np.clip(action[:3], -1.0, 1.0), bool(action[3] > 0)
