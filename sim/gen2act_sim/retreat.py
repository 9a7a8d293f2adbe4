"""How the hand leaves the work without touching what it worked on."""

from __future__ import annotations

import numpy as np

from gen2act_sim.kinematics import Kinematics
from gen2act_sim.scenes import F64

_CLEAR_HEIGHT_M = {
    "coffee": 0.21,
    "drawer": 0.28,
    "door": 0.36,
    "window": 0.40,
    "faucet": 0.30,
    "basketball": 0.40,
    "shelf": 0.33,
    "button": 0.33,
    "button-topdown": 0.42,
    "handle": 0.30,
    "hammer": 0.33,
    "assembly": 0.33,
}


def retreat_waypoints(kin: Kinematics, reset_m: F64) -> list[F64]:
    """Hand positions [3] to pass on the way to the reset pose, the pose itself last."""
    hand = kin.hand_m
    if float(np.linalg.norm(hand - reset_m)) < 0.03:
        return [reset_m]
    height = max(float(hand[2]), _CLEAR_HEIGHT_M[kin.scene])
    points: list[F64] = []
    if kin.scene == "coffee":
        # Nothing may rise under the machine's overhang (from 0.23 m) higher than this.
        under = hand[1] > kin.fixture_m[1] - 0.26
        above = np.array([hand[0], hand[1], min(max(hand[2], 0.21), 0.24) if under else height])
        points.append(above)
        points.append(np.array([hand[0], min(hand[1], kin.fixture_m[1] - 0.32), above[2]]))
    elif kin.scene in ("shelf", "button"):
        # Between the boards, or in front of the box: back first.
        points.append(np.array([hand[0], min(hand[1], kin.fixture_m[1] - 0.25), hand[2]]))
    else:
        points.append(np.array([hand[0], hand[1], height]))
    points.append(reset_m)
    return points
