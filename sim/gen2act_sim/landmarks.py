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
            points = kin.mug_m + np.array([0.0, 0.0, 0.035]), kin.site_m("buttonStart")
        case "drawer":
            points = kin.body_m("drawer_link") + np.array([0.0, -0.16, 0.0]), kin.fixture_m
        case "door":
            points = kin.geom_m("handle"), kin.body_m("door_link")
        case "window":
            points = kin.site_m("handleOpenStart"), kin.fixture_m
        case "faucet":
            points = kin.site_m("handleStartOpen"), kin.fixture_m + np.array([0.0, 0.0, 0.125])
        case unknown:
            raise KeyError(unknown)
    return np.stack(points)
