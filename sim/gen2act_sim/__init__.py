"""Meta-World behind a small API: scenes, policy ticks, scripted experts, the rendered human hand.

Importing this package chooses MuJoCo's off-screen backend (EGL, else OSMesa) unless MUJOCO_GL is
set; import it before `mujoco`.
"""

from gen2act_sim.gl import choose_backend

choose_backend()

from gen2act_sim.errors import (  # noqa: E402  (the backend must be chosen first)
    DemonstrationFailed,
    InvalidAction,
    InvalidState,
    NoStage,
    SimError,
    SystemLibraryMissing,
    UnknownTask,
)
from gen2act_sim.tasks import ACTIVITIES, SCENES, TASKS, TaskInfo, match_task  # noqa: E402
from gen2act_sim.world import Observation, World  # noqa: E402
from gen2act_sim.demos import RobotEpisode, robot_demo  # noqa: E402, I001
from gen2act_sim.human import HumanVideo, human_video  # noqa: E402
