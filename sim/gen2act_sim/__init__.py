"""Meta-World behind a small API: scenes, policy ticks, scripted experts, the rendered human hand.

Importing this package chooses MuJoCo's off-screen backend (EGL, else OSMesa) unless MUJOCO_GL is
set; import it before `mujoco`.
"""

from gen2act_sim.demos import RobotEpisode, robot_demo
from gen2act_sim.errors import (
    DemonstrationFailed,
    InvalidAction,
    InvalidState,
    NoStage,
    SimError,
    SystemLibraryMissing,
    UnknownTask,
)
from gen2act_sim.human import HumanVideo, human_video
from gen2act_sim.tasks import ACTIVITIES, SCENES, TASKS, TaskInfo, match_task
from gen2act_sim.tracks import Tracks
from gen2act_sim.world import Observation, World

__all__ = [
    "ACTIVITIES",
    "SCENES",
    "TASKS",
    "DemonstrationFailed",
    "HumanVideo",
    "InvalidAction",
    "InvalidState",
    "NoStage",
    "Observation",
    "RobotEpisode",
    "SimError",
    "SystemLibraryMissing",
    "TaskInfo",
    "Tracks",
    "UnknownTask",
    "World",
    "human_video",
    "match_task",
    "robot_demo",
]
