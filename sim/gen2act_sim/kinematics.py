"""Reads positions out of a simulator state: hand, mug, fixture. Everything in the world frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen2act_sim.scenes import F64, SPECS

# The mug stands right under the spout when its origin is here relative to the machine's [m].
MUG_AT_MACHINE_M = np.array([0.0, -0.22, 0.0])
# Experts leave it here: deeper, the wrist meets the machine and the mug slips.
MUG_PARKED_M = np.array([0.0, -0.25, 0.0])


class Kinematics:
    """Named quantities of one `MjModel`/`MjData` pair; holds no state of its own."""

    def __init__(self, scene: str, model: Any, data: Any) -> None:
        spec = SPECS[scene]
        self.scene = scene
        self._data = data
        self._hand = model.body("hand").id
        self._claws = (model.body("rightclaw").id, model.body("leftclaw").id)
        self._tips = (model.site("rightEndEffector").id, model.site("leftEndEffector").id)
        self._fixture = model.body(spec.fixture).id
        joint = model.joint(spec.joint).id
        self.fixture_qpos = int(model.jnt_qposadr[joint])
        self.fixture_dof = int(model.jnt_dofadr[joint])
        self._mug = model.body("obj").id if scene == "coffee" else -1

    @property
    def hand_m(self) -> F64:
        """Origin of the gripper's palm [3] (what Meta-World calls the hand)."""
        return np.array(self._data.xpos[self._hand])

    @property
    def tool_m(self) -> F64:
        """Tool centre: half-way between the finger tips [3]."""
        tips: F64 = (self._data.site_xpos[self._tips[0]] + self._data.site_xpos[self._tips[1]]) / 2
        return np.array(tips)

    @property
    def gripper_opening(self) -> float:
        """0 (shut) .. 1 (10 cm or more apart), as Meta-World scales it."""
        right, left = (self._data.xpos[i] for i in self._claws)
        return float(np.clip(np.linalg.norm(right - left) / 0.1, 0.0, 1.0))

    @property
    def fixture_m(self) -> F64:
        """Position of the body that the seed places (machine, drawer case, ...) [3]."""
        return np.array(self._data.xpos[self._fixture])

    @property
    def fixture_q(self) -> float:
        """Position of the joint that tasks move [m or rad]."""
        return float(self._data.qpos[self.fixture_qpos])

    @property
    def mug_m(self) -> F64:
        """Origin of the mug, at its bottom's centre [3]."""
        return np.array(self._data.xpos[self._mug])

    @property
    def mug_uprightness(self) -> float:
        """Cosine of the angle between the mug's axis and the vertical."""
        return float(self._data.xmat[self._mug][8])

    @property
    def push_goal_m(self) -> F64:
        """Where a pushed mug should stand [3]."""
        goal: F64 = self.fixture_m + MUG_AT_MACHINE_M
        return goal

    @property
    def parking_m(self) -> F64:
        """Where experts push the mug to; 3 cm in front of `push_goal_m` [3]."""
        goal: F64 = self.fixture_m + MUG_PARKED_M
        return goal

    def site_m(self, name: str) -> F64:
        """Position of a named site [3]."""
        return np.array(self._data.site(name).xpos)

    def geom_m(self, name: str) -> F64:
        """Position of a named geom [3]."""
        return np.array(self._data.geom(name).xpos)

    def body_m(self, name: str) -> F64:
        """Position of a named body [3]."""
        return np.array(self._data.body(name).xpos)
