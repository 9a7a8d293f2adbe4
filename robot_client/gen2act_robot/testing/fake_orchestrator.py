"""The robot gateway without an orchestrator: real gRPC, commands given by the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc.aio

from gen2act_contracts import CONTRACT_VERSION, pb
from gen2act_contracts.errors import ContractMismatch, Gen2ActError, RobotIdInUse
from gen2act_contracts.rpc import abort
from gen2act_contracts.spec import ActionSpec
from gen2act_robot.testing.waiting import until

_Requests: TypeAlias = AsyncIterator[pb.robot.RobotMessage]
_Replies: TypeAlias = AsyncIterator[pb.robot.RobotCommand]
_Context: TypeAlias = "grpc.aio.ServicerContext[_Requests, _Replies]"


class Attachment:
    """One robot's stream, seen from the orchestrator."""

    def __init__(self, hello: pb.robot.Hello) -> None:
        self.hello = hello
        self.results: dict[str, pb.robot.CommandResult] = {}
        self.ticks: list[pb.robot.TickReport] = []
        self.ended: list[pb.robot.RolloutEnded] = []
        self.heartbeats = 0
        self.closed_by_robot = False  # the robot ended its half of the stream in good order
        self.over = False
        self._commands: asyncio.Queue[pb.robot.RobotCommand | None] = asyncio.Queue()
        self._count = 0

    async def command(self, **command: object) -> pb.robot.CommandResult:
        """Sends one command, e.g. `stop=pb.robot.Stop(reason="test")`, and waits for its result."""
        return await self.result(self.post(**command))

    def post(self, **command: object) -> str:
        """Sends one command and returns its id."""
        self._count += 1
        command_id = f"command-{self._count}"
        self._commands.put_nowait(
            pb.robot.RobotCommand(command_id=command_id, **command)  # type: ignore[arg-type]
        )
        return command_id

    async def result(self, command_id: str) -> pb.robot.CommandResult:
        await until(lambda: command_id in self.results, what=f"result of {command_id}")
        return self.results[command_id]

    async def reset(self, task: str = "open the drawer") -> pb.robot.CommandResult:
        return await self.command(
            reset_and_capture=pb.robot.ResetAndCapture(
                task_id="task", stage_id="stage", task=task, new_scene=True, activity_tasks=[task]
            )
        )

    async def start_rollout(
        self,
        spec: ActionSpec,
        *,
        stage_id: str = "stage",
        policy_address: str = "",
        max_ticks: int = 1000,
        spec_hash: str | None = None,
    ) -> pb.robot.CommandResult:
        return await self.command(
            start_rollout=pb.robot.StartRollout(
                task_id="task",
                stage_id=stage_id,
                task="open the drawer",
                goal_id="goal",
                policy_address=policy_address,
                action_spec=spec.to_proto(),
                spec_hash=spec.hash if spec_hash is None else spec_hash,
                max_ticks=max_ticks,
            )
        )

    def close(self) -> None:
        """Ends the attachment from the orchestrator's side."""
        self._commands.put_nowait(None)

    def take(self, message: pb.robot.RobotMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "result":
            self.results[message.result.command_id] = message.result
        elif kind == "tick":
            self.ticks.append(message.tick)
        elif kind == "ended":
            self.ended.append(message.ended)
        elif kind == "heartbeat":
            self.heartbeats += 1

    async def next_command(self) -> pb.robot.RobotCommand | None:
        return await self._commands.get()


class FakeOrchestrator:
    """Serves `Attach` on a free port. A second robot with the id of an attached one is refused.

    Args:
        refuse: every attachment is refused with this error.
    """

    def __init__(self, *, refuse: Gen2ActError | None = None, heartbeat_s: float = 0.2) -> None:
        self.refuse = refuse
        self.heartbeat_s = heartbeat_s
        self.attempts = 0
        self.attachments: list[Attachment] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serves; after a `stop`, on the same port again."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        pb.robot_grpc.add_RobotGatewayServicer_to_server(_Servicer(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Breaks all streams, as a killed replica would."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        for attachment in self.attachments:
            attachment.over = True

    async def attached(self, count: int = 1) -> Attachment:
        """The `count`-th attachment since the start."""
        await until(lambda: len(self.attachments) >= count, what=f"attachment {count}")
        return self.attachments[count - 1]

    async def __aenter__(self) -> FakeOrchestrator:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


class _Servicer(pb.robot_grpc.RobotGatewayServicer):
    def __init__(self, fake: FakeOrchestrator) -> None:
        self._fake = fake

    async def Attach(
        self,
        request_iterator: _Requests,
        context: _Context,
    ) -> _Replies:
        fake = self._fake
        fake.attempts += 1
        hello = (await anext(request_iterator)).hello
        if fake.refuse is not None:
            await abort(context, fake.refuse)
        if hello.contract_version != CONTRACT_VERSION:
            await abort(context, ContractMismatch(f"version {hello.contract_version}"))
        if any(
            not other.over
            and other.hello.robot_id == hello.robot_id
            and other.hello.instance_id != hello.instance_id
            for other in fake.attachments
        ):
            await abort(context, RobotIdInUse(f"robot id {hello.robot_id!r} is in use"))
        attachment = Attachment(hello)
        yield pb.robot.RobotCommand(
            welcome=pb.robot.Welcome(
                lease_id="lease", heartbeat_s=fake.heartbeat_s, lease_timeout_s=10.0
            )
        )
        fake.attachments.append(attachment)
        reader = asyncio.create_task(self._read(request_iterator, attachment))
        try:
            while (command := await attachment.next_command()) is not None:
                yield command
        finally:
            attachment.over = True
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(
        self, messages: AsyncIterator[pb.robot.RobotMessage], attachment: Attachment
    ) -> None:
        try:
            async for message in messages:
                attachment.take(message)
            attachment.closed_by_robot = True
        finally:
            attachment.close()
