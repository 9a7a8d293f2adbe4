"""`robot_client`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence

from gen2act_contracts.errors import Gen2ActError, RobotLost
from gen2act_robot.capture import ImageEncoding
from gen2act_robot.client import ClientConfig, RobotClient
from gen2act_robot.commands import LoopConfig
from gen2act_robot.drivers import BUILT_IN, DriverError, load_driver
from gen2act_robot.fallback import SafetyBounds
from gen2act_robot.robot import Robot

EXIT_USAGE = 2  # bad arguments, or a driver that cannot be made
EXIT_REFUSED = 3  # the orchestrator does not take this robot
EXIT_DRIVER_HANGS = 4

_EPILOG = """\
examples:
  robot_client run --robot sim --robot-id sim-1 --orchestrator localhost:50053 \\
      --policy localhost:50052 --seed 7
  robot_client run --robot my_arm:MyArm --driver-option port=/dev/ttyUSB0 --robot-id arm-1 \\
      --orchestrator gateway.example.org:50053

The robot dials out and needs no open port. Ctrl-C leaves it holding. When the orchestrator is away
it holds and keeps asking. Exit status: 0 after Ctrl-C or SIGTERM, 2 for a bad command line or
driver, 3 when the orchestrator refuses this robot (id in use, other contract version), 4 when the
driver hangs at the end.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=parsed.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(message)s",
        stream=sys.stderr,
    )
    try:
        config = _config(parsed)
        robot = load_driver(parsed.robot, _driver_options(parsed))
    except (DriverError, ValueError) as error:
        print(f"robot_client: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        asyncio.run(_serve(robot, config))
    except RobotLost as error:
        print(f"robot_client: [{error.code}] {error}", file=sys.stderr, flush=True)
        # The driver's thread hangs in a call; a normal exit would wait for it for ever.
        os._exit(EXIT_DRIVER_HANGS)
    except Gen2ActError as error:
        print(f"robot_client: [{error.code}] {error}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


async def _serve(robot: Robot, config: ClientConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask_to_stop() -> None:
        stop.set()
        # A second Ctrl-C ends the process the usual way.
        loop.remove_signal_handler(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask_to_stop)
    await RobotClient(robot, config).run(stop)


def _config(parsed: argparse.Namespace) -> ClientConfig:
    if parsed.fast and parsed.period_s is not None:
        raise ValueError("--fast and --period-s exclude each other")
    if parsed.fast and parsed.latency_allowance == 0:
        raise ValueError("--fast waits for replies: --latency-allowance must be above 0")
    if parsed.period_s is not None and not parsed.period_s > 0:
        raise ValueError(f"--period-s must be positive, got {parsed.period_s}")
    if not 0 <= parsed.latency_allowance < 1:
        raise ValueError(f"--latency-allowance must be in [0, 1), got {parsed.latency_allowance}")
    return ClientConfig(
        robot_id=parsed.robot_id,
        orchestrator=parsed.orchestrator,
        loop=LoopConfig(
            policy_address=parsed.policy or "",
            period_s=parsed.period_s,
            bounds=SafetyBounds(hold_ms=parsed.hold_ms, watchdog_ms=parsed.watchdog_ms),
            latency_allowance=parsed.latency_allowance,
            encoding=ImageEncoding(parsed.images),
        ),
        fast=parsed.fast,
    )


def _driver_options(parsed: argparse.Namespace) -> dict[str, object]:
    options: dict[str, object] = {}
    for option in parsed.driver_option:
        key, equals, value = option.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"--driver-option {option!r}: write KEY=VALUE")
        options[key] = value
    if parsed.scene is not None:
        if parsed.robot != "sim":
            raise ValueError("--scene is for --robot sim")
        options["scene"] = parsed.scene
    if parsed.seed is not None:
        if parsed.robot not in BUILT_IN:
            raise ValueError("--seed is for --robot sim and mock; use --driver-option seed=...")
        options["seed"] = parsed.seed
    return options


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, e.g. localhost:50053")
    return text


def _robot_id(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r}: use 1 to 64 letters, digits, '.', '_' and '-', e.g. arm-1"
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robot_client",
        description="Connects one robot to Gen2Act: runs the control loop and keeps it safe.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="attach a robot and serve until Ctrl-C",
        description="Attaches a robot to the orchestrator and serves it until Ctrl-C.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--robot",
        required=True,
        metavar="DRIVER",
        help=f"{', '.join(BUILT_IN)}, or module:Class of your own driver",
    )
    run.add_argument("--robot-id", required=True, type=_robot_id, metavar="ID", help="unique name")
    run.add_argument(
        "--orchestrator",
        required=True,
        type=_address,
        metavar="HOST:PORT",
        help="the orchestrator's robot gateway",
    )
    run.add_argument(
        "--policy",
        type=_address,
        metavar="HOST:PORT",
        help="policy service, when the orchestrator names none",
    )
    driver = run.add_argument_group("driver")
    driver.add_argument(
        "--scene", help="sim: scene for tasks it does not know, and before the first"
    )
    driver.add_argument(
        "--seed", type=int, help="sim, mock: seed of the first task, one more for each task (0)"
    )
    driver.add_argument(
        "--driver-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of your driver's class, as text; may be repeated",
    )
    loop = run.add_argument_group("control loop")
    loop.add_argument(
        "--period-s",
        type=float,
        metavar="S",
        help="control period [s] (default: the action spec's, 1/3)",
    )
    loop.add_argument(
        "--fast",
        action="store_true",
        help="simulated robots: tick as quick as replies come, not in real time",
    )
    loop.add_argument(
        "--latency-allowance",
        type=float,
        default=0.6,
        metavar="SHARE",
        help="share of the period to wait for the reply to its own frame (0.6); "
        "0: never wait, run on the chunk of an earlier frame",
    )
    loop.add_argument(
        "--images", choices=[e.value for e in ImageEncoding], default="jpeg", help="on the wire"
    )
    safety = run.add_argument_group("safety")
    safety.add_argument(
        "--hold-ms",
        type=float,
        default=SafetyBounds.hold_ms,
        metavar="MS",
        help="holding without a valid action before the robot stops (%(default)g)",
    )
    safety.add_argument(
        "--watchdog-ms",
        type=float,
        default=SafetyBounds.watchdog_ms,
        metavar="MS",
        help="a control loop that hangs for so long is stopped (%(default)g)",
    )
    run.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return parser
