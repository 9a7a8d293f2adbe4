import pytest

from gen2act_robot.drivers import DriverError, load_driver
from gen2act_robot.testing import MockRobot


def test_the_mock_driver_is_built_in() -> None:
    assert isinstance(load_driver("mock", {"seed": 3}), MockRobot)


def test_a_driver_of_ones_own_is_named_by_module_and_class() -> None:
    robot = load_driver("gen2act_robot.testing:JudgedMockRobot")
    assert type(robot).__name__ == "JudgedMockRobot"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mok", r"Did you mean 'mock'\?"),
        ("no_such_module:Arm", "cannot be imported.*no_such_module"),
        ("gen2act_robot.testing:Arm", "has no class 'Arm'"),
        ("builtins:dict", "lacks reset, observe"),
    ],
)
def test_a_wrong_name_is_answered_with_what_would_be_right(name: str, message: str) -> None:
    with pytest.raises(DriverError, match=message):
        load_driver(name)


def test_a_driver_that_cannot_be_made_says_why() -> None:
    with pytest.raises(DriverError, match="unexpected keyword argument 'port'"):
        load_driver("mock", {"port": "/dev/ttyUSB0"})
