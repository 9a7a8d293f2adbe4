"""The simulated robot: a scene of gen2act_sim, whose time advances by ticks only."""

from __future__ import annotations

import logging
import threading

# Imported first: chooses MuJoCo's off-screen backend.
from gen2act_sim import SCENES, UnknownTask, World, match_task  # isort: skip
from gen2act_contracts.errors import InvalidInput
from gen2act_contracts.frames import Frame
from gen2act_contracts.spec import ActionDimension
from gen2act_robot.robot import (
    Action,
    ResetRequest,
    RobotLimits,
    RobotObservation,
    StageVerdict,
    Workspace,
)

_log = logging.getLogger(__name__)
logging.getLogger("OpenGL").setLevel(logging.WARNING)  # tells of optional parts it lacks

_DELTA_M = 0.05  # [m] what the simulated arm can do in one tick and axis
_AXES = ("dx", "dy", "dz")
_DEFAULT_SCENE = "coffee"

LIMITS = RobotLimits(
    dimensions=tuple(ActionDimension(axis, "m", -_DELTA_M, _DELTA_M) for axis in _AXES),
    frame="world",
    # A tick of the simulator stands for 1/3 s; how long it takes by a watch is up to the loop.
    min_control_period_s=0.001,
    # The box that the simulator lets the hand go in, plus the tool's offset and one tick: at its
    # edge the simulated hand is held back, which is no fault of the policy.
    workspace=Workspace(low_m=(-0.62, 0.28, -0.30), high_m=(0.62, 1.12, 0.62)),
    max_speed_m_s=0.30,
)


class SimRobot:
    """A Meta-World scene as a robot.

    At the first stage of a task the scene is made anew: the one that holds the first of the task's
    stages, with a seed that grows by one per task, so that (seed, n-th task) determines it.

    Args:
        scene: scene before the first task, and for tasks that the simulator does not know.
        seed: of the first task.
    """

    name = "sim"
    limits = LIMITS

    def __init__(self, scene: str | None = None, seed: int = 0) -> None:
        if scene is not None and scene not in SCENES:
            raise InvalidInput(f"unknown scene {scene!r}; known: {', '.join(SCENES)}")
        self._scene = scene
        self._seed = seed
        self._task_id: str | None = None
        self._world: World | None = None  # made in the driver's thread, where it must stay
        self._judged = False
        self._stopped = threading.Event()

    @property
    def world(self) -> World:
        """The scene at hand; for tests and tools in the driver's thread."""
        if self._world is None:
            self._world = World(self._scene or _DEFAULT_SCENE, self._seed)
        return self._world

    def reset(self, request: ResetRequest) -> None:
        self._stopped.clear()
        if request.new_scene or self._world is None:
            if not request.new_scene:
                _log.warning("the scene of the earlier stages is gone; making a new one")
            self._new_scene(request)
        else:
            self._world.go_to_reset_pose()

    def observe(self) -> RobotObservation:
        seen = self.world.observe()
        x, y, z = (float(value) for value in seen.ee_position_m)
        return RobotObservation(Frame(seen.image), (x, y, z), float(seen.gripper_opening))

    def apply(self, action: Action) -> None:
        if not self._stopped.is_set():
            self.world.step(action.displacement, 1.0 if action.gripper_closed else 0.0)

    def hold(self) -> None:
        """Lets one tick pass without motion: gravity and doors on springs go on."""
        if not self._stopped.is_set():
            self.world.hold()

    def stop(self, reason: str) -> None:
        """Freezes the world."""
        self._stopped.set()

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None

    def simulator_state(self) -> bytes:
        return self.world.get_state()

    def begin_stage(self, task: str) -> None:
        try:
            info = match_task(task, scene=self.world.scene)
        except UnknownTask as error:
            _log.warning("no verdict for this stage: %s", error)
            self._judged = False
            return
        self.world.begin_stage(info.id)
        self._judged = True

    def verdict(self) -> StageVerdict | None:
        if not self._judged:
            return None
        return StageVerdict(self.world.success(), self.world.success_once)

    def _new_scene(self, request: ResetRequest) -> None:
        if self._task_id is not None and request.task_id != self._task_id:
            self._seed += 1
        self._task_id = request.task_id
        first = request.activity_tasks[0] if request.activity_tasks else request.task
        if not request.new_scene:
            first = request.task  # an earlier stage's scene was lost: begin at this one
        start_task: str | None = None
        scene = self._scene or _DEFAULT_SCENE
        try:
            info = match_task(first)
            start_task, scene = info.id, info.scene
        except UnknownTask as error:
            _log.warning("keeping to scene %r: %s", scene, error)
        if self._world is not None:
            self._world.close()
        self._world = World(scene, self._seed)
        self._world.reset(start_task)
        _log.info("scene %s, seed %d, task %s", scene, self._seed, start_task)
