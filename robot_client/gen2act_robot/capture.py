"""From a driver's observation to what goes on the wire."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from gen2act_contracts import frames, pb
from gen2act_contracts.errors import NonFiniteInput, SpecMismatch
from gen2act_contracts.spec import ActionSpec
from gen2act_robot.robot import Robot


class ImageEncoding(enum.Enum):
    JPEG = "jpeg"
    RAW = "raw"


@dataclass(frozen=True)
class Capture:
    """One observation, encoded."""

    image: pb.common.Image  # for the policy
    report_image: pb.common.Image  # JPEG, for the recording
    proprioception: pb.common.Proprioception | None
    ee_position_m: tuple[float, float, float] | None  # [m]


class Capturer:
    """Observes and encodes; runs in the driver's thread, as both take milliseconds."""

    def __init__(self, robot: Robot, spec: ActionSpec, encoding: ImageEncoding) -> None:
        self._robot = robot
        self._spec = spec
        self._encoding = encoding

    def capture(self) -> Capture:
        """Takes one observation.

        Raises:
            NonFiniteInput: the robot measures NaN or infinity of itself.
            SpecMismatch: the policy needs proprioception and the driver measures none.
        """
        observation = self._robot.observe()
        position_m, opening = observation.ee_position_m, observation.gripper_opening
        proprioception: pb.common.Proprioception | None = None
        if position_m is not None and opening is not None:
            if not np.isfinite([*position_m, opening]).all():
                raise NonFiniteInput(
                    f"the robot measures ee_position_m {position_m}, gripper_opening {opening}"
                )
            proprioception = pb.common.Proprioception(
                ee_position_m=position_m, gripper_opening=opening
            )
        elif self._spec.uses_proprioception:
            raise SpecMismatch(
                "the policy uses proprioception, but the driver measures no "
                + ("ee_position_m" if position_m is None else "gripper_opening")
            )
        frame = frames.resize(observation.frame, self._spec.image_size)
        jpeg = frames.encode_jpeg(frame)
        return Capture(
            image=jpeg if self._encoding is ImageEncoding.JPEG else frames.encode_raw(frame),
            report_image=jpeg,
            proprioception=proprioception,
            ee_position_m=position_m,
        )
