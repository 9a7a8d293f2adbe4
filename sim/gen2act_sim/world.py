"""One simulated scene with a robot in it, driven in policy ticks."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gen2act_sim import experts, judge
from gen2act_sim.errors import InvalidAction, InvalidState, NoStage, UnknownTask
from gen2act_sim.initial import Variation, draw_variation, initial_qpos
from gen2act_sim.kinematics import Kinematics
from gen2act_sim.physics import START_M, STEP_LIMIT_M, SUBSTEPS, Physics
from gen2act_sim.rendering import U8, renderer_for
from gen2act_sim.retreat import retreat_waypoints
from gen2act_sim.scenes import F64
from gen2act_sim.state import StageState, WorldState, decode_state, encode_state
from gen2act_sim.tasks import SCENES

DELTA_LIMIT_M = SUBSTEPS * STEP_LIMIT_M  # largest displacement per tick and axis
_WAYPOINT_TICKS = 14  # bound per waypoint on the way to the reset pose
_WAYPOINT_TOLERANCE_M = 0.004


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
        """Makes the scene and resets it for its first task.

        Raises:
            UnknownTask: no such scene.
        """
        self.scene = scene
        self.seed = seed
        self.image_size = image_size
        self.physics = Physics(scene)
        self.variation: Variation = draw_variation(scene, self._rng("variation"))
        self._stage: StageState | None = None
        self.reset()

    def _rng(self, purpose: str) -> np.random.Generator:
        salt = zlib.crc32(f"{self.scene}/{purpose}".encode())
        return np.random.default_rng([self.seed % 2**64, salt])

    @property
    def kin(self) -> Kinematics:
        """Positions of hand, mug and fixture now."""
        return self.physics.kin

    @property
    def mj_data(self) -> Any:
        """The simulator's data, for renderers and trackers; not to be written."""
        return self.physics.data

    # -- motion ----------------------------------------------------------------------------------

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
            raise InvalidAction(
                "want 3 finite displacements [m] and a finite gripper value,"
                f" got {delta_m!r} and {gripper_closed!r}"
            )
        delta = np.clip(delta, -DELTA_LIMIT_M, DELTA_LIMIT_M)
        for _ in range(SUBSTEPS):
            self.substep(delta / SUBSTEPS, gripper_closed >= 0.5)

    def substep(self, delta_m: F64, closed: bool) -> None:
        """One simulator step, a fifth of a tick; for demonstrators."""
        self.physics.substep(delta_m, closed)
        stage = self._stage
        if stage is not None and not stage.success_once and self._progress()[0]:
            self._stage = replace(stage, success_once=True)

    def hold(self) -> None:
        """One tick without motion; the gripper keeps its command."""
        self.step(np.zeros(3), float(self.gripper_commanded))

    @property
    def gripper_commanded(self) -> bool:
        """Whether the gripper was last told to close."""
        return self.physics.gripper_commanded

    # -- resets ----------------------------------------------------------------------------------

    def reset(self, start_task: str | None = None) -> None:
        """Fresh object poses, fully determined by the seed and `start_task`.

        Args:
            start_task: the initial state suits this task, whose stage begins (default: the
                scene's first).

        Raises:
            UnknownTask: not a task of this scene.
        """
        task = self._check_task(start_task or SCENES[self.scene][0])
        self.variation = draw_variation(self.scene, self._rng("variation"))
        settled = self.physics.settled_qpos()
        self.physics.place_fixture(self.variation.fixture_m)
        self._stage = None
        self.physics.reset(initial_qpos(self.kin, settled, task, self.variation, self._rng(task)))
        self.step(np.zeros(3), 0.0)  # loose objects come to rest
        self.begin_stage(task)

    def go_to_reset_pose(self) -> None:
        """Physically open the gripper, back off and return to the reset pose; objects stay.

        Takes up to 46 ticks, fewer when the hand is near (typically about 10).
        """
        for _ in range(2):
            self.step(np.zeros(3), 0.0)
        for waypoint in retreat_waypoints(self.kin, START_M):
            for _ in range(_WAYPOINT_TICKS):
                error = waypoint - self.physics.target_m
                if np.abs(error).max() < _WAYPOINT_TOLERANCE_M:
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
        x, y, z = self.kin.object_m.tolist()
        fresh = StageState(
            self._check_task(task), self.kin.fixture_q, (x, y, z), success_once=False
        )
        self._stage = fresh
        self._stage = replace(fresh, success_once=self._progress()[0])

    @property
    def stage(self) -> str | None:
        """Task id of the current stage."""
        return None if self._stage is None else self._stage.task

    def _progress(self) -> tuple[bool, bool]:
        stage = self._stage
        if stage is None:
            raise NoStage("call begin_stage(task) first")
        return judge.progress(self.kin, stage, self.variation.pull_goal_m)

    def success(self) -> bool:
        """Is the current stage's task fulfilled now, by the simulator's state?"""
        return self._progress()[0]

    @property
    def success_once(self) -> bool:
        """Was it fulfilled at any moment since the stage began?"""
        return self._stage is not None and self._stage.success_once

    def expert_done(self) -> bool:
        """Success with a margin: the expert has nothing left to do (the label of terminate)."""
        return all(self._progress())

    def expert_control(self) -> tuple[F64, bool]:
        """The expert's next simulator step: displacement [3] [m] and whether to close."""
        if self.expert_done():
            return np.zeros(3), self.gripper_commanded
        assert self._stage is not None  # or expert_done had raised
        motion, closed = experts.control(self.kin, self._stage.task, self.variation.pull_goal_m)
        return motion * STEP_LIMIT_M, closed

    def expert_action(self) -> tuple[F64, float]:
        """What the scripted expert would do over the next tick from here.

        Found by running it for a tick on the physics and putting the state back, so that
        `step(*expert_action())` replays it. When it is done: no motion, same gripper command.

        Returns:
            displacement [3] [m] and 1.0 for a closed gripper, 0.0 for an open one.

        Raises:
            NoStage: before `begin_stage`.
        """
        if self.expert_done():
            return np.zeros(3), float(self.gripper_commanded)
        saved, stage = self.physics.vector(), self._stage
        start = self.physics.target_m
        votes = 0
        for _ in range(SUBSTEPS):
            delta_m, closed = self.expert_control()
            votes += int(closed)
            self.substep(delta_m, closed)
        moved = self.physics.target_m - start
        self.physics.restore(saved)
        self._stage = stage
        return np.clip(moved, -DELTA_LIMIT_M, DELTA_LIMIT_M), float(votes > SUBSTEPS / 2)

    # -- senses ----------------------------------------------------------------------------------

    def observe(self) -> Observation:
        """Picture, tool centre and gripper opening now.

        Raises:
            SystemLibraryMissing: nothing can render here.
        """
        image = renderer_for(self.scene, self.image_size).rgb(self.mj_data)
        return Observation(image, self.kin.tool_m, self.kin.gripper_opening)

    # -- state -----------------------------------------------------------------------------------

    def get_state(self) -> bytes:
        """Everything needed to go on from here in another process; opaque, 1-2 kB."""
        return encode_state(
            WorldState(self.scene, self.seed, self.variation, self._stage, self.physics.vector())
        )

    def set_state(self, state: bytes) -> None:
        """Go to a state from `get_state` of the same scene.

        Raises:
            InvalidState: corrupt, too big, of another version or scene; the world is unchanged.
        """
        decoded = decode_state(state)
        if decoded.scene != self.scene:
            raise InvalidState(f"state is of scene {decoded.scene!r}, this world is {self.scene!r}")
        size = self.physics.vector_size
        if decoded.vector.shape != (size,):
            raise InvalidState(f"physics vector has {decoded.vector.size} numbers, want {size}")
        self.seed = decoded.seed
        self.variation = decoded.variation
        self._stage = decoded.stage
        self.physics.place_fixture(decoded.variation.fixture_m)
        self.physics.restore(decoded.vector)

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
        self.__dict__.pop("physics", None)
