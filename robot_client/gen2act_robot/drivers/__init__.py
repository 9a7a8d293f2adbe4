"""The drivers that come with the client, and how to name one's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping

from gen2act_robot.robot import Robot

# name → module:Class; imported only when asked for, since a driver may need much.
BUILT_IN: dict[str, str] = {
    "mock": "gen2act_robot.testing.mock_robot:MockRobot",
    "sim": "gen2act_robot.drivers.sim:SimRobot",
}

_METHODS = ("reset", "observe", "apply", "hold", "stop", "close")


class DriverError(Exception):
    """A driver that cannot be found, made or used; one line for the person who named it."""


def load_driver(name: str, options: Mapping[str, object] | None = None) -> Robot:
    """Makes the driver called `name`: "mock", "sim", or "module:Class" of one's own.

    Args:
        options: keyword arguments of the class.

    Raises:
        DriverError: says what is wrong and what would be right.
    """
    path = BUILT_IN.get(name, name)
    module_name, _, class_name = path.partition(":")
    if not class_name:
        close = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DriverError(
            f"unknown robot {name!r}: use one of {', '.join(BUILT_IN)}, "
            f"or module:Class for a driver of your own.{hint}"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        extra = " (pip install 'gen2act-robot[sim]')" if name == "sim" else ""
        raise DriverError(f"robot {name!r} cannot be imported: {error}{extra}") from error
    factory = getattr(module, class_name, None)
    if not callable(factory):
        raise DriverError(f"module {module_name} has no class {class_name!r}")
    try:
        robot = factory(**(options or {}))
    except Exception as error:
        raise DriverError(
            f"robot {name!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    missing = [method for method in _METHODS if not callable(getattr(robot, method, None))]
    missing += [attribute for attribute in ("name", "limits") if not hasattr(robot, attribute)]
    if missing:
        raise DriverError(f"robot {name!r} lacks {', '.join(missing)}; see gen2act_robot.Robot")
    result: Robot = robot
    return result
