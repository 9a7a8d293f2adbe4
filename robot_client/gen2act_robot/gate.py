"""The action gate: the last thing between a policy and a motor.

Nothing is clipped. An action that breaks a rule raises `UnsafeAction`, upon which the robot stops:
a policy that asks for the impossible once is not to be trusted with the next action either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.errors import UnsafeAction
from gen2act_contracts.spec import ActionChunk, ActionDimension, ActionSpec
from gen2act_robot.chunks import PlannedAction
from gen2act_robot.robot import Action, RobotLimits

# Chunks travel as float32, bounds as float64: 0.05 arrives as 0.05000000075. Relative to the range.
_FLOAT32_SLACK = 1e-6

_AXES = ("dx", "dy", "dz")


class ActionGate:
    """Checks against the spec *and* the driver's own limits; the narrower one counts."""

    def __init__(self, spec: ActionSpec, limits: RobotLimits) -> None:
        self._dimensions = tuple(spec.dimensions)
        self._period_s = spec.control_period_s
        self._chunk_length = spec.chunk_length
        self._limits = limits
        own = {dimension.name: dimension for dimension in limits.dimensions}
        lows, highs = [], []
        for wanted in self._dimensions:
            low, high = wanted.low, wanted.high
            if wanted.name in own:
                low, high = max(low, own[wanted.name].low), min(high, own[wanted.name].high)
            lows.append(low)
            highs.append(high)
        self._low = np.array(lows)
        self._high = np.array(highs)
        self._metres = _mask(self._dimensions, "m")
        self._radians = _mask(self._dimensions, "rad")
        names = [dimension.name for dimension in self._dimensions]
        self._axes = [names.index(axis) if axis in names else None for axis in _AXES]

    def check_chunk(self, chunk: ActionChunk) -> None:
        """Shape and finiteness of a whole chunk, on arrival.

        Raises:
            UnsafeAction: wrong shape, or a value that is not finite, anywhere in the chunk.
        """
        shape = (self._chunk_length, len(self._dimensions))
        if chunk.values.shape != shape or chunk.gripper.shape != shape[:1]:
            raise UnsafeAction(
                f"chunk has shape {chunk.values.shape} with {chunk.gripper.shape} gripper values; "
                f"the action spec says {shape} with {shape[:1]}"
            )
        if not (np.isfinite(chunk.values).all() and np.isfinite(chunk.gripper).all()):
            raise UnsafeAction("chunk holds a value that is not finite")

    def admit(
        self, planned: PlannedAction, ee_position_m: tuple[float, float, float] | None
    ) -> Action:
        """The action to execute.

        Args:
            planned: chosen for this tick.
            ee_position_m: measured now, in the frame of the limits [m]; None if not measured.

        Raises:
            UnsafeAction: names the rule, the value and what is allowed.
        """
        values = np.asarray(planned.values, dtype=np.float64)
        if values.shape != (len(self._dimensions),):
            raise UnsafeAction(
                f"action has shape {values.shape}, expected ({len(self._dimensions)},)"
            )
        if not np.isfinite(values).all():
            raise UnsafeAction(f"action is not finite: {_show(values)}")
        if not 0.0 <= planned.gripper <= 1.0:  # false for NaN too
            raise UnsafeAction(f"gripper probability {planned.gripper} is not in [0, 1]")
        self._check_bounds(values)
        self._check_speed(values)
        self._check_workspace(values, ee_position_m)
        return Action(
            displacement=values.astype(np.float32),
            gripper_closed=planned.gripper >= 0.5,
            period_s=self._period_s,
        )

    def _check_bounds(self, values: NDArray[np.float64]) -> None:
        slack = _FLOAT32_SLACK * (self._high - self._low)
        outside = (values < self._low - slack) | (values > self._high + slack)
        if outside.any():
            i = int(np.argmax(outside))
            dimension = self._dimensions[i]
            raise UnsafeAction(
                f"{dimension.name} = {values[i]:.6g} {dimension.unit} is out of bounds "
                f"[{self._low[i]:.6g}, {self._high[i]:.6g}]",
                dimension=dimension.name,
            )

    def _check_speed(self, values: NDArray[np.float64]) -> None:
        for mask, unit, allowed in (
            (self._metres, "m/s", self._limits.max_speed_m_s),
            (self._radians, "rad/s", self._limits.max_speed_rad_s),
        ):
            speed = float(np.linalg.norm(values[mask])) / self._period_s
            if speed > allowed * (1.0 + _FLOAT32_SLACK):
                raise UnsafeAction(f"speed {speed:.4g} {unit} is above {allowed:.4g} {unit}")

    def _check_workspace(
        self, values: NDArray[np.float64], ee_position_m: tuple[float, float, float] | None
    ) -> None:
        workspace = self._limits.workspace
        if workspace is None:
            return
        if ee_position_m is None:
            raise UnsafeAction("the driver has a workspace box but measured no ee_position_m")
        step = [0.0 if axis is None else values[axis] for axis in self._axes]
        target = np.asarray(ee_position_m) + step
        if not workspace.contains(target):
            raise UnsafeAction(
                f"target {_show(target)} m is outside of the workspace "
                f"{list(workspace.low_m)} to {list(workspace.high_m)} m"
            )


def _mask(dimensions: tuple[ActionDimension, ...], unit: str) -> NDArray[np.bool_]:
    return np.array([dimension.unit == unit for dimension in dimensions], dtype=bool)


def _show(values: NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
