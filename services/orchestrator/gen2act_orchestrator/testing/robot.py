"""A robot that only talks: it attaches over real gRPC and does what it is told, on paper."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np

from gen2act_contracts import CONTRACT_VERSION
from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.frames import Frame, encode_jpeg
from gen2act_contracts.pb import common, robot, robot_grpc
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionDimension
from gen2act_orchestrator.testing.peers import SPEC


def picture(level: int = 100, size: int = 64) -> common.Image:
    """A grey JPEG."""
    return encode_jpeg(Frame(np.full((size, size, 3), level, np.uint8)))


@dataclass
class FakeRobot:
    """One robot process. `attach` may be entered again: a reconnect of the same instance.

    Args:
        ticks_to_done: from this tick on the terminate probability is 0.9; None: never.
        tick_s: [s] between ticks.
        refusals: answer to the next command of a kind, instead of carrying it out: (code, message).
        ends_with: the next rollouts end after three ticks with this reason, one each.
        ticking: cleared by a test to freeze rollouts.
        answering: cleared by a test: commands are taken and never answered.
    """

    address: str
    robot_id: str = "robot-1"
    instance_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    contract_version: int = CONTRACT_VERSION
    dimensions: Sequence[ActionDimension] = SPEC.dimensions
    frame: str = SPEC.frame
    ticks_to_done: int | None = 3
    tick_s: float = 0.005
    verdict: bool = True
    scene: Callable[[], common.Image] = picture
    sees: Callable[[int], common.Image] = lambda tick: picture(min(250, 50 + 5 * tick))
    refusals: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    ends_with: list[str] = field(default_factory=list)
    heartbeats: bool = True
    commands: list[robot.RobotCommand] = field(default_factory=list)
    welcome: robot.Welcome | None = None

    def __post_init__(self) -> None:
        self.ticking = asyncio.Event()
        self.ticking.set()
        self.answering = asyncio.Event()
        self.answering.set()
        self.moving = asyncio.Event()  # a rollout is going on and not held
        self.attached = asyncio.Event()
        self.ticks = 0  # of the present rollout
        self._outbox: asyncio.Queue[robot.RobotMessage | None] = asyncio.Queue()
        self._rollout: asyncio.Task[None] | None = None

    def terminates(self, tick: int) -> float:
        """The terminate probability at a tick."""
        done = self.ticks_to_done is not None and tick >= self.ticks_to_done
        return 0.9 if done else 0.1

    def told(self, kind: str) -> list[robot.RobotCommand]:
        """The commands of one kind so far."""
        return [c for c in self.commands if c.WhichOneof("command") == kind]

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[FakeRobot]:
        """Attached until the block ends; then the connection just breaks.

        Raises:
            Gen2ActError: refused by the orchestrator.
        """
        running = asyncio.create_task(self.run())
        ready = asyncio.create_task(self.attached.wait())
        try:
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            yield self
        finally:
            for task in (ready, running):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Gen2ActError):
                    await task

    async def run(self) -> None:
        """One attachment, until it ends. Raises what the orchestrator ended it with."""
        self._outbox = asyncio.Queue()
        async with grpc.aio.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = robot_grpc.RobotGatewayStub(channel).Attach(self._messages())
            beating = asyncio.create_task(self._beat())
            try:
                async for command in call:
                    self._take(command)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from None
            finally:
                self.attached.clear()
                self.moving.clear()
                call.cancel()
                await self._end_rollout()
                beating.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beating

    async def detach(self) -> None:
        """End our half of the stream in good order."""
        self._outbox.put_nowait(None)

    async def _messages(self) -> AsyncIterator[robot.RobotMessage]:
        hello = robot.Hello(
            robot_id=self.robot_id,
            contract_version=self.contract_version,
            driver="fake",
            dimensions=[d.to_proto() for d in self.dimensions],
            frame=self.frame,
            min_control_period_s=0.01,
            instance_id=self.instance_id,
        )
        yield robot.RobotMessage(hello=hello)
        while (message := await self._outbox.get()) is not None:
            yield message

    async def _beat(self) -> None:
        # A write that meets a refusal on its way makes gRPC report an internal error instead.
        await self.attached.wait()
        while True:
            await asyncio.sleep(0.05)
            if self.heartbeats:
                self._outbox.put_nowait(robot.RobotMessage(heartbeat=robot.Heartbeat()))

    def _take(self, command: robot.RobotCommand) -> None:
        kind = command.WhichOneof("command") or ""
        if kind == "welcome":
            self.welcome = command.welcome
            self.attached.set()
            return
        self.commands.append(command)
        if not self.answering.is_set():
            return
        result = robot.CommandResult(command_id=command.command_id, ok=True)
        if self.refusals.get(kind):
            result.ok = False
            result.error_code, result.error_message = self.refusals[kind].pop(0)
        elif kind == "reset_and_capture":
            self._cancel_rollout()
            result.scene.image.CopyFrom(self.scene())
            result.scene.simulator_state = b"state"
        elif kind == "start_rollout":
            self._rollout = asyncio.create_task(self._roll_out(command.start_rollout))
        elif kind in ("end_rollout", "hold") and self._rollout is None:
            result.ok = False
            result.error_code, result.error_message = "INVALID_TRANSITION", "no rollout is running"
        elif kind == "hold":
            (self.moving.clear if command.hold.on else self.moving.set)()
        self._outbox.put_nowait(robot.RobotMessage(result=result))
        if kind == "end_rollout" and result.ok:
            self._finish(command.end_rollout.stage_id, "END_COMMAND")
        elif kind == "stop" and self._rollout is not None:
            self._finish(self.told("start_rollout")[-1].start_rollout.stage_id, "STOPPED")

    async def _roll_out(self, start: robot.StartRollout) -> None:
        self.moving.set()
        self.ticks = 0
        while True:
            await asyncio.sleep(self.tick_s)
            await self.moving.wait()
            await self.ticking.wait()
            tick = robot.TickReport(
                stage_id=start.stage_id,
                tick=self.ticks,
                terminate_probability=self.terminates(self.ticks),
                image=self.sees(self.ticks),
                loop_ms=4.0,
            )
            self._outbox.put_nowait(robot.RobotMessage(tick=tick))
            self.ticks += 1
            if self.ends_with and self.ticks >= 3:
                self._finish(start.stage_id, self.ends_with.pop(0))
                return
            if self.ticks >= start.max_ticks:
                self._finish(start.stage_id, "MAX_TICKS")
                return

    def _finish(self, stage_id: str, reason: str) -> None:
        ended = robot.RolloutEnded(
            stage_id=stage_id, reason=reason, ticks=self.ticks, last_image=picture(200)
        )
        ended.verdict.success = ended.verdict.success_once = self.verdict
        self._outbox.put_nowait(robot.RobotMessage(ended=ended))
        self._cancel_rollout()

    def _cancel_rollout(self) -> None:
        self.moving.clear()
        if self._rollout is not None and self._rollout is not asyncio.current_task():
            self._rollout.cancel()
        self._rollout = None

    async def _end_rollout(self) -> None:
        rolling = self._rollout
        self._cancel_rollout()
        if rolling is not None:
            await asyncio.wait({rolling})
