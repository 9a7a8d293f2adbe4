"""A driver of one's own, in full: replace the bodies with calls of your arm's library.

    robot_client run --robot my_arm:MyArm --driver-option port=/dev/ttyUSB0 --robot-id arm-1 \
        --orchestrator localhost:50053 --policy localhost:50052
"""

from __future__ import annotations

import threading

import numpy as np

from gen2act_contracts.frames import Frame
from gen2act_contracts.spec import ActionDimension
from gen2act_robot.robot import Action, ResetRequest, RobotLimits, RobotObservation, Workspace


class MyArm:
    """No base class is needed; these attributes and methods are all there is."""

    name = "my-arm"
    # Compared with the action spec before anything moves: names, units and ranges must fit.
    limits = RobotLimits(
        dimensions=tuple(ActionDimension(axis, "m", -0.05, 0.05) for axis in ("dx", "dy", "dz")),
        frame="world",
        min_control_period_s=0.05,
        max_speed_m_s=0.30,
        workspace=Workspace(low_m=(-0.4, 0.2, 0.0), high_m=(0.4, 0.9, 0.5)),
    )

    def __init__(self, port: str = "/dev/null") -> None:
        self._stopped = threading.Event()
        self._position_m = np.array([0.0, 0.5, 0.2])
        self._closed = False
        self._port = port  # open the connection to your arm here

    def reset(self, request: ResetRequest) -> None:
        """Move out of the camera's view, gripper open; return when there."""
        self._stopped.clear()
        self._position_m = np.array([0.0, 0.5, 0.2])
        self._closed = False

    def observe(self) -> RobotObservation:
        """One square RGB image, and what the arm measures of itself."""
        pixels = np.full((224, 224, 3), 128, np.uint8)  # your camera's newest frame
        x, y, z = (float(value) for value in self._position_m)
        return RobotObservation(Frame(pixels), (x, y, z), 0.0 if self._closed else 1.0)

    def apply(self, action: Action) -> None:
        """Begin the motion; it should be over `action.period_s` later. Do not block until then."""
        if not self._stopped.is_set():
            self._position_m = self._position_m + action.displacement
            self._closed = action.gripper_closed

    def hold(self) -> None:
        """Stay where you are. Never repeat the last displacement."""

    def stop(self, reason: str) -> None:
        """End all motion now. Called from any thread, also while another method hangs."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the hardware, leaving the arm still."""
