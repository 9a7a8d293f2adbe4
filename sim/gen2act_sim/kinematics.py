"""Reads positions out of a simulator state: hand, fixture, loose object; in the world frame."""

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
        self.fixture_qpos = None if spec.link is None else _qpos_index(model, spec.link)
        self._object = None if spec.loose is None else model.body(spec.loose).id
        self.object_qpos = None if spec.loose is None else _qpos_index(model, spec.loose)

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
        """Position of the joint that tasks move [m or rad]; 0 where there is none."""
        return 0.0 if self.fixture_qpos is None else float(self._data.qpos[self.fixture_qpos])

    @property
    def object_m(self) -> F64:
        """Origin of the loose object (a mug's: its bottom's centre) [3]; zeros where none is."""
        return np.zeros(3) if self._object is None else np.array(self._data.xpos[self._object])

    @property
    def object_axes(self) -> F64:
        """The loose object's axes as columns [3, 3]; the world's where none is."""
        if self._object is None:
            return np.eye(3)
        return np.array(self._data.xmat[self._object]).reshape(3, 3)

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

    @property
    def button_m(self) -> F64:
        """Middle of the outer face of the box's button [3]."""
        button = self._data.body("button")
        return np.array(button.xpos + button.xmat.reshape(3, 3) @ (0.0, -0.194, 0.0))

    @property
    def hoop_m(self) -> F64:
        """Just above the middle of the basketball hoop [3]."""
        hoop: F64 = self.fixture_m + np.array([0.0, -0.083, 0.30])
        return hoop

    @property
    def shelf_goal_m(self) -> F64:
        """Middle of the shelf's upper compartment, 5 cm above its board [3]."""
        goal: F64 = self.fixture_m + np.array([0.0, 0.0, 0.30])
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


def _qpos_index(model: Any, body: str) -> int:
    """Where the positions of a body's joint begin in qpos."""
    return int(model.jnt_qposadr[model.body(body).jntadr[0]])
