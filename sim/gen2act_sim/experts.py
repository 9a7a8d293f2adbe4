"""Scripted experts: from any state to the next small motion. Memoryless, so they label any state.

Most are Meta-World's own policies, fed with an observation built here from the state (their
environments would have to be reset, which a chain of stages forbids). Ours are the faucet's
(closing an open tap does not exist in Meta-World) and the mug's (Meta-World's drags the mug before
the fingers hold it, which from our reset pose loses it half of the time).
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from gen2act_sim.kinematics import Kinematics
from gen2act_sim.scenes import F64

_POLICY_NAMES = {
    "coffee-button": "SawyerCoffeeButtonV3Policy",
    "drawer-open": "SawyerDrawerOpenV3Policy",
    "drawer-close": "SawyerDrawerCloseV3Policy",
    "door-open": "SawyerDoorOpenV3Policy",
    "door-close": "SawyerDoorCloseV3Policy",
    "window-open": "SawyerWindowOpenV3Policy",
    "window-close": "SawyerWindowCloseV3Policy",
}


@functools.cache
def _policy(task: str) -> Any:
    import metaworld.policies as policies  # over a second to import, and only experts need it

    return getattr(policies, _POLICY_NAMES[task])()


def _object_and_goal(kin: Kinematics, task: str) -> tuple[F64, F64]:
    """What the task's Meta-World environment would report as object and goal position [3]."""
    none = np.zeros(3)
    match task:
        case "coffee-button":
            return kin.site_m("buttonStart"), none
        case "drawer-open":
            return kin.body_m("drawer_link") + np.array([0.0, -0.16, 0.0]), none
        case "drawer-close":
            return kin.body_m("drawer_link") + np.array([0.0, -0.16, 0.05]), none
        case "door-open":
            return kin.geom_m("handle"), none
        case "door-close":
            return kin.geom_m("handle"), kin.fixture_m + np.array([0.2, -0.2, 0.0])
        case "window-open":
            return kin.site_m("handleOpenStart"), none
        case "window-close":
            return kin.site_m("handleCloseStart"), none
    raise KeyError(task)


def _toward(source_m: F64, target_m: F64, gain: float) -> F64:
    return np.clip(gain * (target_m - source_m), -1.0, 1.0)


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
    if not on_track and hand[2] > axis[2] + 0.03 or not on_track and behind > 0.03:
        if float(np.linalg.norm((hand - beside)[:2])) > 0.02:
            return _toward(hand, beside + np.array([0.0, 0.0, 0.1]), 25.0), True
        return _toward(hand, beside, 25.0), True
    if not on_track:
        return _toward(hand, hand + np.array([0.0, 0.0, 0.1]), 25.0), True  # wrong side: rise
    if hand[2] > axis[2] + 0.03:
        return _toward(hand, beside, 25.0), True
    return _toward(hand, contact + sign * 0.06 * tangent, 25.0), True


def _move_mug(kin: Kinematics, goal_m: F64) -> tuple[F64, bool]:
    """Take the mug between the fingers, slide it to goal_m [3] and keep holding it."""
    hand, mug = kin.hand_m, kin.mug_m
    grasp = mug + np.array([0.0, 0.0, 0.065])
    aside = float(np.linalg.norm((hand - grasp)[:2]))
    above = float(hand[2] - grasp[2])
    if above < 0.03 and aside < 0.035:
        if kin.gripper_opening > 0.8:
            return (_toward(hand, grasp, 20.0), False) if above > 0.02 else (np.zeros(3), True)
        motion = 10.0 * (goal_m - mug)
        motion[2] = 10.0 * (goal_m[2] + 0.065 - hand[2])
        # Together, not axis by axis: friction alone must carry the sideways part.
        return motion * min(1.0, 0.6 / max(float(np.abs(motion).max()), 1e-9)), True
    if aside < 0.02:
        return _toward(hand, grasp, 20.0), False
    # The fingers reach 5 cm below the hand and the mug is 7 cm high: travel above its rim.
    target = grasp + np.array([0.0, 0.0, 0.11])
    if above < 0.07:
        target[:2] = hand[:2]
    return _toward(hand, target, 20.0), False


def control(kin: Kinematics, task: str, pull_goal_m: F64) -> tuple[F64, bool]:
    """The expert's motion for one simulator step.

    Returns:
        displacement in units of 1 cm, within [-1, 1] per axis [3], and whether to close the
        gripper.
    """
    if task in ("faucet-open", "faucet-close"):
        return _faucet(kin, opening=task == "faucet-open")
    if task in ("coffee-push", "coffee-pull"):
        return _move_mug(kin, kin.push_goal_m if task == "coffee-push" else pull_goal_m)
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
