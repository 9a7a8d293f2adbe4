"""What to look for in a picture of a scene: labels for learning, never given to a policy."""

from __future__ import annotations

import numpy as np

from gen2act_sim.kinematics import Kinematics
from gen2act_sim.scenes import F64

LANDMARKS = 2  # per scene


def landmarks_m(kin: Kinematics) -> F64:
    """Where the hand has to act, and where the thing belongs or hangs, world frame [2, 3] [m]."""
    match kin.scene:
        case "coffee":
            points = kin.object_m + np.array([0.0, 0.0, 0.035]), kin.site_m("buttonStart")
        case "drawer":
            points = kin.body_m("drawer_link") + np.array([0.0, -0.16, 0.0]), kin.fixture_m
        case "door":
            points = kin.geom_m("handle"), kin.body_m("door_link")
        case "window":
            points = kin.site_m("handleOpenStart"), kin.fixture_m
        case "faucet":
            points = kin.site_m("handleStartOpen"), kin.fixture_m + np.array([0.0, 0.0, 0.125])
        case "basketball":
            points = kin.object_m, kin.hoop_m
        case "shelf":
            points = kin.object_m, kin.shelf_goal_m
        case "button" | "button-topdown":
            points = kin.button_m, kin.fixture_m
        case "handle":
            points = kin.site_m("handleStart"), kin.fixture_m
        case "hammer":
            points = kin.object_m, kin.body_m("nail_link")
        case "assembly":
            points = kin.site_m("RoundNut-8"), kin.fixture_m + np.array([0.0, 0.0, 0.05])
        case unknown:
            raise KeyError(unknown)
    return np.stack(points)
