"""The composition root: a driver, the control loop and the two connections, as one client."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from gen2act_contracts import pb
from gen2act_contracts.spec import ActionSpec
from gen2act_robot.clock import Clock, FastClock, SystemClock
from gen2act_robot.commands import CommandHandler, LoopConfig
from gen2act_robot.driver_thread import DriverThread
from gen2act_robot.gateway import GatewaySession
from gen2act_robot.grpc_policy_link import GrpcPolicyLink
from gen2act_robot.robot import Robot
from gen2act_robot.transport import Backoff
from gen2act_robot.watchdog import Watchdog


@dataclass(frozen=True)
class ClientConfig:
    robot_id: str
    orchestrator: str  # host:port of the robot gateway
    loop: LoopConfig
    fast: bool = False  # simulated robots: tick as quick as replies come
    in_use_attempts: int = 8
    backoff: Callable[[], Backoff] = Backoff  # between attempts to attach
    # Eight attempts with these pauses outlast the lease that a crashed predecessor left.
    in_use_backoff: Callable[[], Backoff] = field(
        default=lambda: Backoff(initial_s=2.0, maximum_s=6.0)
    )


class RobotClient:
    """Runs one robot.

    Args:
        clock_factory: makes each rollout's clock; default by `config.fast`.
    """

    def __init__(
        self,
        robot: Robot,
        config: ClientConfig,
        *,
        clock_factory: Callable[[], Clock] | None = None,
    ) -> None:
        self._driver = DriverThread(robot)
        self._watchdog = Watchdog(self._driver.stop_now, config.loop.bounds.watchdog_ms)
        self._handler = CommandHandler(
            self._driver,
            config.loop,
            _make_link,
            clock_factory or (FastClock if config.fast else SystemClock),
            self._watchdog,
        )
        self.session = GatewaySession(
            config.orchestrator,
            config.robot_id,
            self._driver,
            self._handler,
            backoff=config.backoff(),
            in_use_backoff=config.in_use_backoff(),
            in_use_attempts=config.in_use_attempts,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serves the robot until `stop` is set; then holds, detaches and closes the driver.

        Raises:
            Gen2ActError: the orchestrator refuses this robot for good.
        """
        self._watchdog.start()
        try:
            await self.session.run(stop)
        finally:
            self._watchdog.close()
            await self._driver.close()


def _make_link(address: str, command: pb.robot.StartRollout, spec: ActionSpec) -> GrpcPolicyLink:
    return GrpcPolicyLink(
        address,
        session_id=f"{command.stage_id}-{uuid.uuid4().hex[:8]}",
        goal_id=command.goal_id,
        spec=spec,
        spec_hash=command.spec_hash,
    )
