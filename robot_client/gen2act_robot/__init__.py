"""The robot's side of Gen2Act: 3 Hz control loop, local safety, drivers.

A driver of one's own implements `Robot`; `robot_client run --robot my_module:MyRobot` uses it.
"""

from gen2act_robot.client import ClientConfig, RobotClient
from gen2act_robot.commands import LoopConfig
from gen2act_robot.fallback import SafetyBounds
from gen2act_robot.robot import (
    Action,
    Judge,
    ResetRequest,
    Robot,
    RobotLimits,
    RobotObservation,
    SimulatorStateSource,
    StageVerdict,
    Workspace,
)

__all__ = [
    "Action",
    "ClientConfig",
    "Judge",
    "LoopConfig",
    "ResetRequest",
    "Robot",
    "RobotClient",
    "RobotLimits",
    "RobotObservation",
    "SafetyBounds",
    "SimulatorStateSource",
    "StageVerdict",
    "Workspace",
]
