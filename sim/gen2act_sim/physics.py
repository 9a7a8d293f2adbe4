"""The simulator underneath a `World`: mocap control of the arm, exact save and restore.

The arm's hand is welded to a massless "mocap" body; moving that body moves the hand, compliantly.
Orientation is fixed (gripper pointing down, opening along world y).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gen2act_sim.gl import mujoco
from gen2act_sim.kinematics import Kinematics
from gen2act_sim.scenes import F64, SPECS, load_model

SUBSTEPS = 5  # simulator steps (80 Hz) per policy tick
FRAME_SKIP = 5  # physics steps (2.5 ms) per simulator step
STEP_LIMIT_M = 0.01  # largest motion of the mocap body per simulator step and axis
# If the hand is held back, its target may run ahead this far [m]; more would be hidden state that
# a policy cannot see and that keeps moving the arm later.
LAG_LIMIT_M = 0.08
# Reset pose of the hand: arm at the picture's edge, all objects in full view [m].
START_M = np.array([-0.05, 0.42, 0.33])

_MOCAP_QUAT = np.array([1.0, 0.0, 1.0, 0.0])
_SETTLE_STEPS = 200
_FAR_AWAY_M = np.array([0.0, 3.0, 0.0])
_OUT_OF_THE_WAY_M = (0.4, 0.9, 0.0)

_STATE_SPEC = int(
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
    | mujoco.mjtState.mjSTATE_WARMSTART
    | mujoco.mjtState.mjSTATE_CTRL
    | mujoco.mjtState.mjSTATE_MOCAP_POS
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT
)

# Joint positions with the arm at rest in its reset pose, per scene: settling takes 50 ms.
_SETTLED: dict[str, F64] = {}


class Physics:
    """One scene's model and state."""

    def __init__(self, scene: str) -> None:
        """Raises UnknownTask if there is no such scene."""
        self.scene = scene
        self.model: Any = load_model(scene)
        self.data: Any = mujoco.MjData(self.model)
        self.kin = Kinematics(scene, self.model, self.data)
        spec = SPECS[scene]
        self._fixture = int(self.model.body(spec.fixture).id)
        self._low, self._high = np.array(spec.mocap_low), np.array(spec.mocap_high)
        self.vector_size = int(mujoco.mj_stateSize(self.model, _STATE_SPEC))

    def place_fixture(self, position_m: F64) -> None:
        """Put the scene's fixture (machine, drawer case, ...) at position_m [3]."""
        self.model.body_pos[self._fixture] = position_m

    def forward(self) -> None:
        """Make positions agree with the joints."""
        # mj_forward would leave its solution as the next step's warm start: whether somebody
        # looked at the world must not change it.
        warmstart = self.data.qacc_warmstart.copy()
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = warmstart

    def substep(self, delta_m: F64, closed: bool) -> None:
        """One simulator step (12.5 ms): move the hand's target by delta_m [3] (±1 cm)."""
        data = self.data
        target = data.mocap_pos[0] + np.clip(delta_m, -STEP_LIMIT_M, STEP_LIMIT_M)
        hand = self.kin.hand_m
        target = np.clip(target, hand - LAG_LIMIT_M, hand + LAG_LIMIT_M)
        data.mocap_pos[0] = np.clip(target, self._low, self._high)
        data.mocap_quat[0] = _MOCAP_QUAT
        effort = 1.0 if closed else -1.0
        data.ctrl[:] = (effort, -effort)
        mujoco.mj_step(self.model, data, FRAME_SKIP)
        self.forward()

    @property
    def target_m(self) -> F64:
        """Where the hand is being told to be [3]."""
        return np.array(self.data.mocap_pos[0])

    @property
    def gripper_commanded(self) -> bool:
        """Whether the gripper was last told to close."""
        return bool(self.data.ctrl[0] > 0)

    def settled_qpos(self) -> F64:
        """Joint positions with the arm at rest in the reset pose [nq]."""
        if self.scene not in _SETTLED:
            _SETTLED[self.scene] = self._settle()
        return _SETTLED[self.scene].copy()

    def _settle(self) -> F64:
        # Nothing may touch the arm on its way, or the result would depend on which seed came
        # first in this process.
        fixture = self.model.body_pos[self._fixture].copy()
        self.place_fixture(_FAR_AWAY_M)
        mujoco.mj_resetData(self.model, self.data)
        if self.kin.object_qpos is not None:
            first = self.kin.object_qpos
            self.data.qpos[first : first + 3] = _OUT_OF_THE_WAY_M
        self._park()
        for _ in range(_SETTLE_STEPS):
            mujoco.mj_step(self.model, self.data, FRAME_SKIP)
        self.place_fixture(fixture)
        return np.array(self.data.qpos)

    def _park(self) -> None:
        self.data.mocap_pos[0] = START_M
        self.data.mocap_quat[0] = _MOCAP_QUAT
        self.data.ctrl[:] = (-1.0, 1.0)

    def reset(self, qpos: F64) -> None:
        """Start at rest from joint positions [nq], the arm at its reset pose."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        self._park()
        self.forward()

    def vector(self) -> F64:
        """The full state of the integrator as one vector [vector_size]."""
        vector = np.zeros(self.vector_size)
        mujoco.mj_getState(self.model, self.data, vector, _STATE_SPEC)
        return vector

    def restore(self, vector: F64) -> None:
        """Back to `vector()`, exactly: what follows is bit-identical."""
        mujoco.mj_setState(self.model, self.data, vector, _STATE_SPEC)
        self.forward()
