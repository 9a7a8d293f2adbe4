import math
from dataclasses import replace

import numpy as np
import pytest

from gen2act_contracts.errors import UnsafeAction
from gen2act_contracts.spec import ActionChunk, ActionDimension
from gen2act_robot.chunks import PlannedAction
from gen2act_robot.gate import ActionGate
from gen2act_robot.robot import RobotLimits, Workspace
from gen2act_robot.testing import MOCK_LIMITS, make_spec

ORIGIN = (0.0, 0.0, 0.0)


def planned(*values: float, gripper: float = 0.0) -> PlannedAction:
    return PlannedAction(np.array(values, np.float32), gripper, sequence=1, index=0)


def gate(limits: RobotLimits = MOCK_LIMITS) -> ActionGate:
    return ActionGate(make_spec(), limits)


def test_an_action_within_all_limits_passes_unchanged() -> None:
    action = gate().admit(planned(0.05, -0.05, 0.01, gripper=0.5), ORIGIN)
    assert action.displacement.tolist() == pytest.approx([0.05, -0.05, 0.01])
    assert action.displacement.dtype == np.float32
    assert action.gripper_closed
    assert action.period_s == pytest.approx(1 / 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(UnsafeAction, match="not finite"):
        gate().admit(planned(0.0, bad, 0.0), ORIGIN)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_a_gripper_that_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(UnsafeAction, match="gripper"):
        gate().admit(planned(0.0, 0.0, 0.0, gripper=bad), ORIGIN)


def test_out_of_bounds_is_refused_and_named_not_clipped() -> None:
    with pytest.raises(UnsafeAction, match=r"dy = -0.051 m is out of bounds \[-0.05, 0.05\]"):
        gate().admit(planned(0.0, -0.051, 0.0), ORIGIN)


def test_the_narrower_of_spec_and_driver_counts() -> None:
    narrow = tuple(replace(d, low=-0.01, high=0.01) for d in MOCK_LIMITS.dimensions)
    with pytest.raises(UnsafeAction, match=r"dx = 0\.02 m"):
        gate(replace(MOCK_LIMITS, dimensions=narrow)).admit(planned(0.02, 0, 0), ORIGIN)


def test_a_diagonal_within_bounds_but_too_fast_is_refused() -> None:
    slow = replace(MOCK_LIMITS, max_speed_m_s=0.2)  # 0.05 m a tick and axis is 0.26 m/s diagonally
    gate(slow).admit(planned(0.05, 0.0, 0.0), ORIGIN)
    with pytest.raises(UnsafeAction, match=r"speed 0.2598 m/s is above 0.2 m/s"):
        gate(slow).admit(planned(0.05, 0.05, 0.05), ORIGIN)


def test_rotations_have_a_speed_limit_of_their_own() -> None:
    dimensions = (ActionDimension("dx", "m", -1.0, 1.0), ActionDimension("dyaw", "rad", -1.0, 1.0))
    spec = replace(make_spec(), dimensions=dimensions)
    limits = RobotLimits(dimensions, "world", 0.1, max_speed_rad_s=1.0)
    rotating = ActionGate(spec, limits)
    rotating.admit(planned(0.9, 0.3), None)
    with pytest.raises(UnsafeAction, match="rad/s"):
        rotating.admit(planned(0.9, 0.4), None)


def test_a_target_outside_of_the_workspace_is_refused() -> None:
    box = replace(MOCK_LIMITS, workspace=Workspace((-0.1, -0.1, 0.0), (0.1, 0.1, 0.2)))
    gate(box).admit(planned(0.05, 0.0, 0.0), (0.04, 0.0, 0.1))
    with pytest.raises(UnsafeAction, match="outside of the workspace"):
        gate(box).admit(planned(0.05, 0.0, 0.0), (0.06, 0.0, 0.1))


@pytest.mark.parametrize("position", [None, (math.nan, 0.0, 0.0)])
def test_a_workspace_needs_a_measured_position(
    position: tuple[float, float, float] | None,
) -> None:
    with pytest.raises(UnsafeAction):
        gate().admit(planned(0.0, 0.0, 0.0), position)


def test_a_chunk_with_one_bad_value_anywhere_is_refused_on_arrival() -> None:
    values = np.zeros((4, 3), np.float32)
    gripper = np.zeros(4, np.float32)
    gate().check_chunk(ActionChunk(values, gripper))
    values[3, 2] = np.nan
    with pytest.raises(UnsafeAction, match="not finite"):
        gate().check_chunk(ActionChunk(values, gripper))


def test_a_chunk_of_another_shape_is_refused_on_arrival() -> None:
    with pytest.raises(UnsafeAction, match="shape"):
        gate().check_chunk(ActionChunk(np.zeros((4, 2), np.float32), np.zeros(4, np.float32)))
