"""The robot's attachment to the orchestrator: dial, stay attached, come back after a break."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from typing import TypeAlias

import grpc
import grpc.aio

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_contracts.errors import (
    ContractMismatch,
    DeadlineExceeded,
    Gen2ActError,
    Internal,
    InvalidInput,
    PeerUnavailable,
    RobotIdInUse,
)
from gen2act_contracts.rpc import from_rpc_error
from gen2act_robot.commands import CommandHandler
from gen2act_robot.driver_thread import DriverThread
from gen2act_robot.transport import Backoff, open_channel

_log = logging.getLogger(__name__)

_Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.robot.RobotMessage, pb.robot.RobotCommand]"

_MAX_TICKS_QUEUED = 64
_GOODBYE_S = 2.0  # [s] bound on a clean detach


class Outbox:
    """Messages to the orchestrator. Tick reports may be lost under pressure, nothing else."""

    def __init__(self) -> None:
        self._messages: deque[pb.robot.RobotMessage] = deque()
        self._ticks = 0
        self._more = asyncio.Event()
        self.closed = False

    def put(self, message: pb.robot.RobotMessage) -> None:
        if message.WhichOneof("message") == "tick":
            if self._ticks >= _MAX_TICKS_QUEUED:
                oldest = next(m for m in self._messages if m.WhichOneof("message") == "tick")
                self._messages.remove(oldest)
                self._ticks -= 1
            self._ticks += 1
        self._messages.append(message)
        self._more.set()

    def close(self) -> None:
        """Wakes the reader for the last time."""
        self.closed = True
        self._more.set()

    async def get(self, timeout_s: float) -> pb.robot.RobotMessage | None:
        """The next message, or None if there is none within the timeout [s] or before the end."""
        if not self._messages and not self.closed:
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._more.wait()
        if not self._messages:
            return None
        message = self._messages.popleft()
        if message.WhichOneof("message") == "tick":
            self._ticks -= 1
        return message


class GatewaySession:
    """Attaches, and again after every break, until told to stop.

    A break ends the lease: the robot holds until the next attachment's commands.

    Args:
        address: orchestrator's robot gateway, host:port.
        in_use_attempts: an id that another client holds is asked for this often before giving up;
            together with the pauses longer than a lease takes to run out after a crash.
        welcome_timeout_s: [s] bound on the handshake.
    """

    def __init__(
        self,
        address: str,
        robot_id: str,
        driver: DriverThread,
        handler: CommandHandler,
        *,
        backoff: Backoff,
        in_use_backoff: Backoff,
        in_use_attempts: int,
        welcome_timeout_s: float = 10.0,
    ) -> None:
        self._address = address
        self._robot_id = robot_id
        self._driver = driver
        self._handler = handler
        self._backoff = backoff
        self._in_use_backoff = in_use_backoff
        self._in_use_attempts = in_use_attempts
        self._welcome_timeout_s = welcome_timeout_s
        self._instance_id = uuid.uuid4().hex
        self.attachments = 0  # handshakes that succeeded

    async def run(self, stop: asyncio.Event) -> None:
        """Returns after `stop` was set, detached, the robot holding.

        Raises:
            RobotIdInUse: another client keeps this robot id.
            Gen2ActError: refused for a reason that trying again does not cure.
        """
        refused = 0
        while not stop.is_set():
            try:
                await self._attach(stop)
                return
            except RobotIdInUse as error:
                refused += 1
                if refused >= self._in_use_attempts:
                    raise RobotIdInUse(
                        f"{error} (asked {refused} times). Is another robot_client running with "
                        f"--robot-id {self._robot_id}? Give each robot its own id."
                    ) from error
                pause_s = self._in_use_backoff.next_s()
                _log.error("%s; again in %.1f s", error, pause_s)
            except Gen2ActError as error:
                if isinstance(error, ContractMismatch | InvalidInput):
                    raise  # the same hello would be refused for ever
                refused = 0
                pause_s = self._backoff.next_s()
                away = isinstance(error, PeerUnavailable)
                _log.warning(
                    "%s at %s; holding, again in %.1f s",
                    "no orchestrator answers" if away else f"{error}, said the orchestrator",
                    self._address,
                    pause_s,
                )
                _log.debug("it was: %s", error)  # for an absent peer, gRPC's own words
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()

    async def _attach(self, stop: asyncio.Event) -> None:
        """One attachment; returns when `stop` is set, raises Gen2ActError when it breaks."""
        async with open_channel(self._address) as channel:
            stub = pb.robot_grpc.RobotGatewayStub(channel)
            call = stub.Attach()
            stopping = asyncio.create_task(stop.wait())
            try:
                await self._session(call, stopping)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            finally:
                stopping.cancel()
                call.cancel()

    async def _session(self, call: _Call, stopping: asyncio.Task[bool]) -> None:
        welcoming = asyncio.create_task(self._handshake(call))
        await asyncio.wait({welcoming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not welcoming.done():
            welcoming.cancel()
            await asyncio.wait({welcoming})
            return
        welcome = await welcoming
        self.attachments += 1
        self._backoff.reset()
        self._in_use_backoff.reset()
        _log.info("attached to %s as %s", self._address, self._robot_id)
        outbox = Outbox()
        self._handler.attached(outbox.put)
        writer = asyncio.create_task(_write(call, outbox, welcome.heartbeat_s))
        # gRPC cancels the whole call with a cancelled read or write: tasks, ended from within.
        reading = asyncio.create_task(call.read())
        try:
            while True:
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    break
                command = reading.result()
                if not isinstance(command, pb.robot.RobotCommand):  # EOF
                    raise PeerUnavailable("the orchestrator closed the attachment")
                reading = asyncio.create_task(call.read())
                await self._handler.handle(command)
        finally:
            await self._handler.detached()
            outbox.close()
            await _say_goodbye(call, writer, reading)

    async def _handshake(self, call: _Call) -> pb.robot.Welcome:
        limits = self._driver.limits
        hello = pb.robot.Hello(
            robot_id=self._robot_id,
            contract_version=CONTRACT_VERSION,
            driver=self._driver.name,
            dimensions=[
                pb.common.ActionDimension(name=d.name, unit=d.unit, low=d.low, high=d.high)
                for d in limits.dimensions
            ],
            frame=limits.frame,
            min_control_period_s=limits.min_control_period_s,
            instance_id=self._instance_id,
        )
        try:
            async with asyncio.timeout(self._welcome_timeout_s):
                await call.write(pb.robot.RobotMessage(hello=hello))
                first = await call.read()
        except TimeoutError:
            raise DeadlineExceeded("the orchestrator did not answer the hello") from None
        if not isinstance(first, pb.robot.RobotCommand):  # EOF
            raise PeerUnavailable("the orchestrator closed the attachment before the welcome")
        if first.WhichOneof("command") != "welcome":
            raise Internal("the orchestrator's first message was not the welcome")
        return first.welcome


async def _write(call: _Call, outbox: Outbox, heartbeat_s: float) -> None:
    heartbeat = pb.robot.RobotMessage(heartbeat=pb.robot.Heartbeat())
    # Half of what is asked for, so that one late beat is not a lost lease.
    interval_s = max(0.05, (heartbeat_s or 1.0) / 2.0)
    loop = asyncio.get_running_loop()
    beat_at = loop.time() + interval_s
    try:
        while not outbox.closed:
            message = await outbox.get(max(0.0, beat_at - loop.time()))
            if message is not None:
                await call.write(message)
            if loop.time() >= beat_at:
                await call.write(heartbeat)
                beat_at = loop.time() + interval_s
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # the stream broke; the reader has the reason


async def _say_goodbye(
    call: _Call, writer: asyncio.Task[None], reading: asyncio.Task[object]
) -> None:
    """Ends our half of the stream and lets the orchestrator end its own, within a bound."""
    with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
        async with asyncio.timeout(_GOODBYE_S):
            await writer
            while await reading is not grpc.aio.EOF:
                reading = asyncio.create_task(call.read())
