"""One attachment of a robot: commands out, results and reports in, over one gRPC stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from gen2act_contracts import frames
from gen2act_contracts.errors import (
    DeadlineExceeded,
    Gen2ActError,
    InvalidImage,
    InvalidTransition,
    RobotFault,
    RobotLost,
    RobotStopped,
    from_code,
)
from gen2act_contracts.pb import common, robot
from gen2act_contracts.spec import ActionSpec
from gen2act_orchestrator.domain.stage import Verdict
from gen2act_orchestrator.service.values import Driver, Ended, Scene, Signals, Tick

_MOVES = ("reset_and_capture", "start_rollout")
_COMMANDS = 64  # waiting to be written to the stream
_REPORTS = 512  # waiting to be read by the runner; minutes of ticks
_MAX_DETAIL = 500  # characters of a robot's own words that are kept


class GrpcRobotLink:
    """`RobotLink` over the messages of one Attach stream. The stream itself is the gateway's."""

    def __init__(self, driver: Driver, lease_id: str, policy_address: str) -> None:
        self.driver = driver
        self.lease_id = lease_id
        self.signals = Signals()
        self.outgoing: asyncio.Queue[robot.RobotCommand] = asyncio.Queue(_COMMANDS)
        self._policy_address = policy_address
        self._numbers = itertools.count(1)
        self._answers: dict[str, asyncio.Future[robot.CommandResult]] = {}
        self._reports: asyncio.Queue[Tick | Ended] = asyncio.Queue(_REPORTS)

    # --- from the robot -----------------------------------------------------------------------

    async def take(self, message: robot.RobotMessage) -> None:
        """Hand a message to whoever waits for it. What nobody waits for is dropped."""
        kind = message.WhichOneof("message")
        if kind == "result":
            answer = self._answers.pop(message.result.command_id, None)
            if answer is not None and not answer.done():
                answer.set_result(message.result)
        elif kind == "tick":
            self._report(await _tick(message.tick))
        elif kind == "ended":
            self._report(await _ended(message.ended))

    def _report(self, report: Tick | Ended) -> None:
        if self._reports.full():  # nobody reads: the oldest tick is of least use
            self._reports.get_nowait()
        self._reports.put_nowait(report)

    async def next_report(self, attempt_id: str, *, deadline_s: float) -> Tick | Ended:
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    report = await self._reports.get()
                    if report.attempt_id == attempt_id:
                        return report
        except TimeoutError:
            raise DeadlineExceeded(
                f"robot {self.driver.robot_id!r} reported nothing for {deadline_s:.0f} s"
            ) from None

    # --- to the robot -------------------------------------------------------------------------

    async def reset_and_capture(
        self,
        *,
        task_id: str,
        attempt_id: str,
        task: str,
        new_scene: bool,
        activity_tasks: Sequence[str],
        deadline_s: float,
    ) -> Scene:
        """Raises InvalidImage where the robot's scene frame is none."""
        command = robot.RobotCommand(
            reset_and_capture=robot.ResetAndCapture(
                task_id=task_id,
                stage_id=attempt_id,
                task=task,
                new_scene=new_scene,
                activity_tasks=list(activity_tasks),
            )
        )
        result = await self._call(command, deadline_s)
        frame = await asyncio.to_thread(frames.decode, result.scene.image)
        if result.scene.image.encoding == common.IMAGE_ENCODING_JPEG:
            jpeg = result.scene.image.data
        else:
            jpeg = (await asyncio.to_thread(frames.encode_jpeg, frame)).data
        return Scene(frame=result.scene, jpeg=jpeg)

    async def start_rollout(
        self,
        *,
        task_id: str,
        attempt_id: str,
        task: str,
        goal_id: str,
        spec: ActionSpec,
        max_ticks: int,
        deadline_s: float,
    ) -> None:
        command = robot.RobotCommand(
            start_rollout=robot.StartRollout(
                task_id=task_id,
                stage_id=attempt_id,
                task=task,
                goal_id=goal_id,
                policy_address=self._policy_address,
                action_spec=spec.to_proto(),
                spec_hash=spec.hash,
                max_ticks=max_ticks,
            )
        )
        await self._call(command, deadline_s)

    async def end_rollout(self, attempt_id: str, reason: str, *, deadline_s: float) -> None:
        command = robot.RobotCommand(
            end_rollout=robot.EndRollout(stage_id=attempt_id, reason=reason)
        )
        await self._call(command, deadline_s)

    async def hold(self, on: bool, *, deadline_s: float) -> None:
        await self._call(robot.RobotCommand(hold=robot.Hold(on=on)), deadline_s)

    async def stop(self, reason: str) -> None:
        # Past everything that waits to be sent; what waits must not move the robot afterwards.
        while not self.outgoing.empty():
            self.outgoing.get_nowait()
        command = robot.RobotCommand(stop=robot.Stop(reason=reason[:_MAX_DETAIL]))
        command.command_id = self._next_id()
        self.outgoing.put_nowait(command)

    async def _call(self, command: robot.RobotCommand, deadline_s: float) -> robot.CommandResult:
        """Send a command and wait for its result.

        Raises:
            RobotStopped: a person stopped the robot; nothing that moves it is sent.
        RobotLost: the attachment is over, now or while waiting.
            DeadlineExceeded: no result in time.
            Gen2ActError: what the robot answered instead of carrying it out.
        """
        if self.signals.lost.is_set():
            raise self._lost()
        kind = command.WhichOneof("command")
        if self.signals.stopped.is_set() and kind in _MOVES:
            raise RobotStopped(f"robot {self.driver.robot_id!r} was stopped by a person")
        command.command_id = self._next_id()
        answer: asyncio.Future[robot.CommandResult] = asyncio.get_running_loop().create_future()
        self._answers[command.command_id] = answer
        lost = asyncio.ensure_future(self.signals.lost.wait())
        waited: set[asyncio.Future[Any]] = {answer, lost}
        try:
            async with asyncio.timeout(deadline_s):
                await self.outgoing.put(command)
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise DeadlineExceeded(
                f"robot {self.driver.robot_id!r} did not answer {kind} within {deadline_s:.0f} s"
            ) from None
        finally:
            lost.cancel()
            self._answers.pop(command.command_id, None)
        if not answer.done():
            raise self._lost()
        result = answer.result()
        if not result.ok:
            raise self._refusal(result, kind or "")
        return result

    def _refusal(self, result: robot.CommandResult, kind: str) -> Gen2ActError:
        said = result.error_message[:_MAX_DETAIL] or "no reason given"
        message = f"robot {self.driver.robot_id!r} refused {kind}: {said}"
        error = from_code(result.error_code, message) if result.error_code else RobotFault(message)
        if isinstance(error, InvalidTransition) and kind not in ("end_rollout", "hold"):
            # About the robot's rollout, not about our task: what was left running ends at a reset.
            return RobotFault(message)
        return error

    def _lost(self) -> RobotLost:
        return RobotLost(f"robot {self.driver.robot_id!r} is not attached any more")

    def _next_id(self) -> str:
        return f"{self.lease_id[:8]}-{next(self._numbers)}"


async def _tick(report: robot.TickReport) -> Tick:
    jpeg = await _jpeg(report.image)
    return Tick(
        attempt_id=report.stage_id,
        number=report.tick,
        terminate_probability=report.terminate_probability,
        loop_ms=report.loop_ms,
        held=report.held,
        seen=None if jpeg is None else Scene(common.SceneFrame(image=report.image), jpeg),
    )


async def _ended(report: robot.RolloutEnded) -> Ended:
    verdict = None
    if report.HasField("verdict"):
        verdict = Verdict(report.verdict.success, report.verdict.success_once)
    return Ended(
        attempt_id=report.stage_id,
        reason=report.reason[:64],
        detail=report.detail[:_MAX_DETAIL],
        ticks=report.ticks,
        last_jpeg=await _jpeg(report.last_image),
        verdict=verdict,
    )


async def _jpeg(image: common.Image) -> bytes | None:
    """A picture for people, or None if it is none: a recording with a hole is no fault."""
    if image.encoding == common.IMAGE_ENCODING_JPEG and image.data[:2] == b"\xff\xd8":
        return image.data
    if image.encoding != common.IMAGE_ENCODING_RAW_RGB8:
        return None
    try:
        frame = await asyncio.to_thread(frames.decode, image)
        return (await asyncio.to_thread(frames.encode_jpeg, frame)).data
    except InvalidImage:
        return None
