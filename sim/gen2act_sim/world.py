"""One simulated scene with a robot in it, driven in policy ticks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from gen2act_sim import experts, judge
from gen2act_sim.errors import InvalidAction, InvalidState, NoStage, UnknownTask
from gen2act_sim.initial import START_M, Variation, draw_variation, initial_qpos
from gen2act_sim.kinematics import Kinematics
from gen2act_sim.rendering import U8, renderer_for
from gen2act_sim.retreat import retreat_waypoints
from gen2act_sim.scenes import F64, SPECS, load_model
from gen2act_sim.state import StageState, WorldState, decode_state, encode_state
from gen2act_sim.tasks import SCENES

SUBSTEPS = 5  # simulator steps (80 Hz) per policy tick
FRAME_SKIP = 5  # physics steps (2.5 ms) per simulator step
STEP_LIMIT_M = 0.01  # largest motion of the mocap body per simulator step and axis
DELTA_LIMIT_M = SUBSTEPS * STEP_LIMIT_M
# The hand hangs on the mocap body by a soft weld. If it is held back, the target may run ahead
# this far [m]; more would be hidden state that a policy cannot see.
LAG_LIMIT_M = 0.08
_MOCAP_QUAT = np.array([1.0, 0.0, 1.0, 0.0])

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

# Arm configuration at the reset pose per scene; settling takes tens of milliseconds.
_SETTLED: dict[str, F64] = {}


@dataclass(frozen=True)
class Observation:
    """What the robot senses after a tick."""

    image: U8  # uint8 [S, S, 3] RGB
    ee_position_m: F64  # tool centre, world frame [3]
    gripper_opening: float  # 0 shut .. 1 open


class World:
    """A scene, its physics and the robot.

    A world belongs to the thread that uses it (OpenGL contexts do); worlds of different threads
    are independent. Same scene, seed and actions give bit-identical states.
    """

    def __init__(self, scene: str, seed: int, *, image_size: int = 224) -> None:
        """Raises UnknownTask if there is no such scene."""
        self.scene = scene
        self.seed = seed
        self.image_size = image_size
        self._model: Any = load_model(scene)
        self._data: Any = mujoco.MjData(self._model)
        self._spec = SPECS[scene]
        self.kin = Kinematics(scene, self._model, self._data)
        self._fixture_body = int(self._model.body(self._spec.fixture).id)
        self._low = np.array(self._spec.mocap_low)
        self._high = np.array(self._spec.mocap_high)
        self._variation: Variation = draw_variation(scene, self._rng("variation"))
        self._stage: StageState | None = None
        self.reset()

    def _rng(self, purpose: str) -> np.random.Generator:
        salt = zlib.crc32(f"{self.scene}/{purpose}".encode())
        return np.random.default_rng([self.seed & 0xFFFFFFFF, salt])

    # -- physics ---------------------------------------------------------------------------------

    def _forward(self) -> None:
        # mj_forward would leave its solution as the next step's warm start: whether somebody
        # looked at the world must not change it.
        warmstart = self._data.qacc_warmstart.copy()
        mujoco.mj_forward(self._model, self._data)
        self._data.qacc_warmstart[:] = warmstart

    def _substep(self, delta_m: F64, closed: bool) -> None:
        """One simulator step (12.5 ms): move the mocap body by delta_m [3], then physics."""
        target = self._data.mocap_pos[0] + np.clip(delta_m, -STEP_LIMIT_M, STEP_LIMIT_M)
        hand = self._data.xpos[self.kin._hand]
        target = np.clip(target, hand - LAG_LIMIT_M, hand + LAG_LIMIT_M)
        self._data.mocap_pos[0] = np.clip(target, self._low, self._high)
        self._data.mocap_quat[0] = _MOCAP_QUAT
        effort = 1.0 if closed else -1.0
        self._data.ctrl[:] = (effort, -effort)
        mujoco.mj_step(self._model, self._data, FRAME_SKIP)
        self._forward()

    def step(self, delta_m: npt.ArrayLike, gripper_closed: float) -> None:
        """One policy tick: 5 simulator steps.

        Args:
            delta_m: end-effector displacement, world frame [3] [m], clipped to ±0.05 per axis.
            gripper_closed: 0..1, closed from 0.5.

        Raises:
            InvalidAction: not three finite numbers, or the gripper's is not finite.
        """
        delta = np.asarray(delta_m, dtype=np.float64)
        if delta.shape != (3,) or not np.isfinite(delta).all() or not np.isfinite(gripper_closed):
            raise InvalidAction(f"want 3 finite displacements and a gripper value, got {delta_m!r}")
        delta = np.clip(delta, -DELTA_LIMIT_M, DELTA_LIMIT_M)
        for _ in range(SUBSTEPS):
            self._substep(delta / SUBSTEPS, gripper_closed >= 0.5)
            self._note_success()

    def hold(self) -> None:
        """One tick without motion; the gripper keeps its command."""
        self.step(np.zeros(3), float(self.gripper_commanded))

    @property
    def gripper_commanded(self) -> bool:
        """Whether the gripper was last told to close."""
        return bool(self._data.ctrl[0] > 0)

    # -- resets ----------------------------------------------------------------------------------

    def reset(self, start_task: str | None = None) -> None:
        """Fresh object poses, fully determined by the seed and `start_task`.

        Args:
            start_task: the initial state suits this task and its stage begins (default: the
                scene's first).

        Raises:
            UnknownTask: not a task of this scene.
        """
        task = self._check_task(start_task or SCENES[self.scene][0])
        self._variation = draw_variation(self.scene, self._rng("variation"))
        self._model.body_pos[self._fixture_body] = self._variation.fixture_m
        if self.scene not in _SETTLED:
            _SETTLED[self.scene] = self._settle()
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = initial_qpos(
            self.kin, self._model, _SETTLED[self.scene], task, self._variation, self._rng(task)
        )
        self._data.mocap_pos[0] = START_M
        self._data.mocap_quat[0] = _MOCAP_QUAT
        self._data.ctrl[:] = (-1.0, 1.0)
        self._forward()
        for _ in range(SUBSTEPS):
            self._substep(np.zeros(3), closed=False)
        self.begin_stage(task)

    def _settle(self) -> F64:
        """Joint positions after the arm has moved to the reset pose, objects out of the way."""
        mujoco.mj_resetData(self._model, self._data)
        if self.scene == "coffee":
            self._data.qpos[:3] = (0.3, 0.9, 0.0)
        self._data.mocap_pos[0] = START_M
        self._data.mocap_quat[0] = _MOCAP_QUAT
        self._data.ctrl[:] = (-1.0, 1.0)
        for _ in range(200):
            mujoco.mj_step(self._model, self._data, FRAME_SKIP)
        return np.array(self._data.qpos)

    def go_to_reset_pose(self) -> None:
        """Physically open the gripper, back off and return to the reset pose; objects stay.

        Takes up to 40 ticks; fewer when the hand is near.
        """
        for _ in range(2):
            self.step(np.zeros(3), 0.0)
        for waypoint in retreat_waypoints(self.kin, START_M):
            for _ in range(14):
                error = waypoint - self._data.mocap_pos[0]
                if np.abs(error).max() < 0.004:
                    break
                self.step(error, 0.0)
        for _ in range(2):
            self.step(np.zeros(3), 0.0)

    # -- stages ----------------------------------------------------------------------------------

    def _check_task(self, task: str) -> str:
        if task not in SCENES[self.scene]:
            known = ", ".join(SCENES[self.scene])
            raise UnknownTask(f"{task!r} is no task of scene {self.scene!r}; known: {known}")
        return task

    def begin_stage(self, task: str) -> None:
        """Fix the stage's reference for `success`; the world itself is not touched.

        Raises:
            UnknownTask: not a task of this scene.
        """
        self._stage = StageState(self._check_task(task), self.kin.fixture_q, success_once=False)
        self._note_success()

    @property
    def stage(self) -> str | None:
        """Task id of the current stage."""
        return None if self._stage is None else self._stage.task

    def _progress(self) -> tuple[bool, bool]:
        if self._stage is None:
            raise NoStage("call begin_stage(task) first")
        stage = self._stage
        return judge.progress(
            self.kin,
            stage.task,
            self._variation.pull_goal_m,
            stage.reference_q,
            stage.success_once,
        )

    def _note_success(self) -> None:
        if self._stage is not None and not self._stage.success_once and self._progress()[0]:
            self._stage = StageState(self._stage.task, self._stage.reference_q, success_once=True)

    def success(self) -> bool:
        """Is the current stage's task fulfilled now, by the simulator's state?"""
        return self._progress()[0]

    @property
    def success_once(self) -> bool:
        """Was it fulfilled after any tick since the stage began?"""
        return self._stage is not None and self._stage.success_once

    def expert_done(self) -> bool:
        """Success with a margin: the expert has nothing left to do."""
        return all(self._progress())

    def expert_action(self) -> tuple[F64, float]:
        """What the scripted expert would do over the next tick from here.

        Found by running it for a tick on the physics and putting the state back, so that
        `step(*expert_action())` replays it. When it is done: no motion, same gripper command.

        Returns:
            displacement [3] [m] and 1.0 for a closed gripper, 0.0 for an open one.
        """
        if self._stage is None:
            raise NoStage("call begin_stage(task) first")
        if self.expert_done():
            return np.zeros(3), float(self.gripper_commanded)
        task, pull_goal_m = self._stage.task, self._variation.pull_goal_m
        saved = self._vector()
        start = self._data.mocap_pos[0].copy()
        votes = 0
        for _ in range(SUBSTEPS):
            if self.expert_done():
                votes += int(self.gripper_commanded)
                continue
            motion, closed = experts.control(self.kin, task, pull_goal_m)
            votes += int(closed)
            self._substep(motion * STEP_LIMIT_M, closed)
        delta = self._data.mocap_pos[0] - start
        self._restore(saved)
        return np.clip(delta, -DELTA_LIMIT_M, DELTA_LIMIT_M), float(votes > SUBSTEPS / 2)

    # -- senses ----------------------------------------------------------------------------------

    def observe(self) -> Observation:
        """Picture, tool centre and gripper opening now."""
        image = renderer_for(self.scene, self.image_size).rgb(self._data)
        return Observation(image, self.kin.tool_m, self.kin.gripper_opening)

    @property
    def mj_data(self) -> Any:
        """The simulator's data, for renderers and trackers; not to be written."""
        return self._data

    # -- state -----------------------------------------------------------------------------------

    def _vector(self) -> F64:
        vector = np.zeros(mujoco.mj_stateSize(self._model, _STATE_SPEC))
        mujoco.mj_getState(self._model, self._data, vector, _STATE_SPEC)
        return vector

    def _restore(self, vector: F64) -> None:
        mujoco.mj_setState(self._model, self._data, vector, _STATE_SPEC)
        self._forward()

    def get_state(self) -> bytes:
        """Everything needed to go on from here in another process; opaque, a few kilobytes."""
        return encode_state(
            WorldState(self.scene, self.seed, self._variation, self._stage, self._vector())
        )

    def set_state(self, state: bytes) -> None:
        """Go to a state from `get_state` of the same scene.

        Raises:
            InvalidState: corrupt, too big, of another version or scene.
        """
        decoded = decode_state(state)
        if decoded.scene != self.scene:
            raise InvalidState(f"state is of scene {decoded.scene!r}, this world is {self.scene!r}")
        size = mujoco.mj_stateSize(self._model, _STATE_SPEC)
        if decoded.vector.shape != (size,):
            raise InvalidState(f"physics vector has {decoded.vector.size} numbers, want {size}")
        self.seed = decoded.seed
        self._variation = decoded.variation
        self._stage = decoded.stage
        self._model.body_pos[self._fixture_body] = decoded.variation.fixture_m
        self._restore(decoded.vector)

    @classmethod
    def from_state(cls, state: bytes, *, image_size: int = 224) -> World:
        """A new world in a state from `get_state`.

        Raises:
            InvalidState: as `set_state`.
        """
        decoded = decode_state(state)
        world = cls(decoded.scene, decoded.seed, image_size=image_size)
        world.set_state(state)
        return world

    def close(self) -> None:
        """Frees the physics; the thread's shared renderer stays for other worlds."""
        self._data = None
        self._model = None
