"""The robot gateway: `gen2act.v1.RobotGateway`. A robot's stream is its lease."""

from __future__ import annotations

import asyncio
import math
import re
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog

from gen2act_contracts import CONTRACT_VERSION
from gen2act_contracts.errors import (
    ContractMismatch,
    DeadlineExceeded,
    Draining,
    Gen2ActError,
    Internal,
    InvalidInput,
    RobotIdInUse,
    SpecMismatch,
    StoreUnavailable,
)
from gen2act_contracts.pb import robot, robot_grpc
from gen2act_contracts.spec import ActionDimension, check_compatible
from gen2act_orchestrator.adapters.robot_link import GrpcRobotLink
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.fleet import Fleet
from gen2act_orchestrator.service.ports import Clock, Policy, RobotStore
from gen2act_orchestrator.service.values import Driver

_log = structlog.get_logger(__name__)

_ROBOT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HELLO_S = 10.0  # [s] from the connection to its hello
_SPEC_S = 2.0  # [s] the policy gets to tell its spec while a robot attaches


class RobotGateway(robot_grpc.RobotGatewayServicer):
    """One `Attach` per robot.

    Args:
        policy_address: told to robots; "" leaves them the one they were started with.
        lease_s: [s] without a message after which a robot counts as lost.
    """

    def __init__(
        self,
        robots: RobotStore,
        policy: Policy,
        fleet: Fleet,
        clock: Clock,
        *,
        policy_address: str,
        lease_s: float,
        refuse_while_draining: Callable[[], None],
    ) -> None:
        self._robots = robots
        self._policy = policy
        self._fleet = fleet
        self._clock = clock
        self._policy_address = policy_address
        self._lease_s = lease_s
        self._refuse_while_draining = refuse_while_draining
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every attachment; robots look for another replica."""
        self._closing.set()

    async def Attach(
        self, request_iterator: AsyncIterator[robot.RobotMessage], context: Any
    ) -> AsyncIterator[robot.RobotCommand]:
        self._refuse_while_draining()
        driver = await _hello(request_iterator)
        await self._check_spec(driver)
        lease_id = uuid.uuid4().hex
        await self._robots.acquire(driver, lease_id, self._clock())
        link = GrpcRobotLink(driver, lease_id, self._policy_address)
        attachment = _Attachment(link, self._robots, self._fleet, self._lease_s)
        helpers = [
            asyncio.create_task(attachment.read(request_iterator)),
            asyncio.create_task(attachment.keep()),
            asyncio.create_task(attachment.close_with(self._closing)),
        ]
        try:
            yield robot.RobotCommand(
                welcome=robot.Welcome(
                    lease_id=lease_id,
                    heartbeat_s=self._lease_s / 5,
                    lease_timeout_s=self._lease_s,
                )
            )
            _log.info("robot attached", robot_id=driver.robot_id, driver=driver.name)
            self._fleet.attach(link)
            async for command in attachment.commands():
                yield command
        finally:
            link.signals.lost.set()
            # In a task of its own: the call being torn down must not tear this down as well.
            leaving = asyncio.create_task(self._leave(link, helpers))
            await asyncio.shield(leaving)
        if attachment.error is not None:
            raise attachment.error

    async def _check_spec(self, driver: Driver) -> None:
        """Refuse a robot that does not fit the policy, before anything moves.

        With the policy away the robot may attach; the check is made again before every stage.
        """
        try:
            spec = await self._policy.spec(deadline_s=_SPEC_S)
        except Gen2ActError as error:
            _log.warning("spec not checked yet", robot_id=driver.robot_id, error=error.message)
            return
        check_compatible(spec, driver.dimensions, driver.frame, driver.min_control_period_s)

    async def _leave(self, link: GrpcRobotLink, helpers: list[asyncio.Task[None]]) -> None:
        await end(*helpers)
        await self._fleet.detach(link)
        try:
            await self._robots.release(link.driver, link.lease_id)
        except StoreUnavailable as error:
            _log.warning("lease not released; it runs out", error=error.message)
        _log.info("robot detached", robot_id=link.driver.robot_id)


class _Attachment:
    """What goes on beside each other while a robot is attached."""

    def __init__(
        self, link: GrpcRobotLink, robots: RobotStore, fleet: Fleet, lease_s: float
    ) -> None:
        self._link = link
        self._robots = robots
        self._fleet = fleet
        self._lease_s = lease_s
        self._heard_at = asyncio.get_running_loop().time()
        self.error: Gen2ActError | None = None  # why the stream is ended from our side

    async def read(self, messages: AsyncIterator[robot.RobotMessage]) -> None:
        """Take in what the robot sends, until it ends its half."""
        try:
            async for message in messages:
                self._heard_at = asyncio.get_running_loop().time()
                await self._link.take(message)
        except Exception as error:  # whatever broke it, the stream is of no more use
            _log.exception("reading from the robot failed")
            self.error = Internal(f"reading the stream failed: {type(error).__name__}")
        finally:
            self._link.signals.lost.set()

    async def keep(self) -> None:
        """Renew the lease; notice a silent robot, a lease lost, and a stop asked elsewhere."""
        link, loop = self._link, asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._lease_s / 8)
            if loop.time() - self._heard_at > self._lease_s:
                self._end(DeadlineExceeded(f"no message within {self._lease_s:g} s"))
                return
            try:
                if not await self._robots.renew(link.driver, link.lease_id):
                    self._end(RobotIdInUse(f"{link.driver.robot_id!r} has attached again"))
                    return
                reason = await self._robots.stop_reason(link.driver.robot_id)
                if reason is not None and not link.signals.stopped.is_set():
                    await self._fleet.obey_stop(link, reason)
            except StoreUnavailable as error:
                # Nobody else can take the lease either: the robot goes on.
                _log.warning("lease not renewed", error=error.message)

    async def close_with(self, closing: asyncio.Event) -> None:
        await closing.wait()
        self._end(Draining("the orchestrator is shutting down; attach to another replica"))

    def _end(self, error: Gen2ActError) -> None:
        _log.warning("ending attachment", robot_id=self._link.driver.robot_id, why=error.message)
        self.error = error
        self._link.signals.lost.set()

    async def commands(self) -> AsyncIterator[robot.RobotCommand]:
        """Commands to write, until the attachment is over."""
        lost = asyncio.create_task(self._link.signals.lost.wait())
        waiting: asyncio.Task[robot.RobotCommand] | None = None
        try:
            while not lost.done():
                waiting = asyncio.create_task(self._link.outgoing.get())
                await asyncio.wait({waiting, lost}, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    yield waiting.result()
        finally:
            for helper in (lost, waiting):
                if helper is not None:
                    helper.cancel()


async def _hello(messages: AsyncIterator[robot.RobotMessage]) -> Driver:
    """The robot's first message.

    Raises:
        DeadlineExceeded: it sends none.
        InvalidInput: it is no hello, or has a bad field.
        ContractMismatch: the robot speaks another contract version.
    """
    try:
        async with asyncio.timeout(_HELLO_S):
            first = await anext(messages)
    except TimeoutError:
        raise DeadlineExceeded(f"no hello within {_HELLO_S:g} s") from None
    except StopAsyncIteration:
        raise InvalidInput("the stream ended before its hello") from None
    if first.WhichOneof("message") != "hello":
        raise InvalidInput("the first message of an attachment must be `hello`")
    hello = first.hello
    if hello.contract_version != CONTRACT_VERSION:
        raise ContractMismatch(
            f"the robot speaks contract version {hello.contract_version}, this orchestrator "
            f"{CONTRACT_VERSION}; install the same release on both"
        )
    if not _ROBOT_ID.fullmatch(hello.robot_id):
        raise InvalidInput(
            f"robot id {hello.robot_id[:64]!r}: 1 to 64 letters, digits, dots, dashes or "
            "underscores, beginning with a letter or digit"
        )
    if not 1 <= len(hello.instance_id) <= 128:
        raise InvalidInput("instance_id must have 1 to 128 characters, new per process start")
    period_s = hello.min_control_period_s
    if not (math.isfinite(period_s) and 0 <= period_s <= 60):
        raise InvalidInput(f"min_control_period_s is {period_s}, expected 0 to 60")
    if not hello.dimensions:
        raise SpecMismatch("the robot's driver names no dimension it can be moved in")
    return Driver(
        robot_id=hello.robot_id,
        instance_id=hello.instance_id,
        name=hello.driver[:64],
        dimensions=tuple(ActionDimension.from_proto(d) for d in hello.dimensions[:16]),
        frame=hello.frame[:64],
        min_control_period_s=period_s,
    )
