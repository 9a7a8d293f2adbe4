"""What the robot does upon each command of the orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gen2act_contracts import frames, pb
from gen2act_contracts.errors import (
    Gen2ActError,
    Internal,
    InvalidInput,
    InvalidTransition,
    Overloaded,
    RobotStopped,
    SpecMismatch,
)
from gen2act_contracts.spec import ActionSpec, check_compatible
from gen2act_robot.capture import Capturer, ImageEncoding
from gen2act_robot.clock import Clock
from gen2act_robot.driver_thread import DriverThread
from gen2act_robot.fallback import SafetyBounds
from gen2act_robot.policy_link import PolicyLink
from gen2act_robot.robot import ResetRequest
from gen2act_robot.rollout import EndReason, Rollout, RolloutOutcome, RolloutSettings, Tick
from gen2act_robot.watchdog import Watchdog

_log = logging.getLogger(__name__)

_MAX_QUEUED = 8
_SCENE_JPEG_QUALITY = 95
_SCENE_MAX_SIDE = 1024  # [px]

# What the handler sends back; the session puts it on the wire.
Send = Callable[[pb.robot.RobotMessage], None]
# (address, StartRollout, spec) → a link that is not open yet
LinkFactory = Callable[[str, pb.robot.StartRollout, ActionSpec], PolicyLink]


@dataclass(frozen=True)
class LoopConfig:
    """How this robot runs rollouts."""

    policy_address: str  # host:port; used when the orchestrator names none
    period_s: float | None = None  # [s]; None: the action spec's
    bounds: SafetyBounds = dataclasses.field(default_factory=SafetyBounds)
    latency_allowance: float = 0.6  # share of the period
    encoding: ImageEncoding = ImageEncoding.JPEG


class CommandHandler:
    """Executes commands of one attachment after another; the robot's state outlives them.

    ResetAndCapture and StartRollout take time and run one after the other. Stop, Hold and
    EndRollout act at once. Every command is answered by one CommandResult.
    """

    def __init__(
        self,
        driver: DriverThread,
        config: LoopConfig,
        link_factory: LinkFactory,
        clock_factory: Callable[[], Clock],
        watchdog: Watchdog,
    ) -> None:
        self._driver = driver
        self._config = config
        self._link_factory = link_factory
        self._clock_factory = clock_factory
        self._watchdog = watchdog
        self._send: Send = _nobody
        self._slow: asyncio.Queue[pb.robot.RobotCommand] = asyncio.Queue(_MAX_QUEUED)
        self._worker: asyncio.Task[None] | None = None
        self._rollout: Rollout | None = None
        self._stage_id = ""
        self._rollout_task: asyncio.Task[None] | None = None
        self._resetting = False
        self._starting: list[str] = []  # stages whose StartRollout is queued or being opened
        self._withdrawn: set[str] = set()  # of these, those that were ended meanwhile

    def attached(self, send: Send) -> None:
        self._send = send
        self._worker = asyncio.create_task(self._work())

    async def detached(self) -> None:
        """The lease is over: ends what runs, and holds."""
        self._send = _nobody
        if self._resetting:
            # The driver's thread is busy with moving the arm; only a stop gets past it. The next
            # lease begins with a reset anyway.
            await self._driver.stop("the lease ended during a reset")
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
        while not self._slow.empty():
            self._slow.get_nowait()
        self._starting.clear()
        self._withdrawn.clear()
        await self._end_rollout(EndReason.DETACHED, "the lease ended")
        await self._driver.hold()

    async def handle(self, command: pb.robot.RobotCommand) -> None:
        """Acts on one command, or queues it; never raises for a bad one."""
        kind = command.WhichOneof("command")
        if kind in ("reset_and_capture", "start_rollout"):
            try:
                self._slow.put_nowait(command)
            except asyncio.QueueFull:
                self._fail(command, Overloaded(f"{_MAX_QUEUED} commands are waiting already"))
                return
            if kind == "start_rollout":
                self._starting.append(command.start_rollout.stage_id)
            return
        with self._answering(command) as result:
            if kind == "stop":
                await self._stop(command.stop.reason or "stop command")
            elif kind == "end_rollout":
                self._end(command.end_rollout)
            elif kind == "hold":
                self._hold(command.hold.on)
            else:
                raise InvalidInput(f"unknown command {kind!r}")
            result.ok = True

    async def _work(self) -> None:
        while True:
            command = await self._slow.get()
            with self._answering(command) as result:
                if command.WhichOneof("command") == "reset_and_capture":
                    result.scene.CopyFrom(await self._reset_and_capture(command.reset_and_capture))
                else:
                    try:
                        await self._start_rollout(command.start_rollout)
                    finally:
                        self._starting.remove(command.start_rollout.stage_id)
                        self._withdrawn.discard(command.start_rollout.stage_id)
                result.ok = True

    @contextlib.contextmanager
    def _answering(self, command: pb.robot.RobotCommand) -> Iterator[pb.robot.CommandResult]:
        """Sends the result that the block fills in, or the error that it raised."""
        result = pb.robot.CommandResult(command_id=command.command_id)
        try:
            yield result
        except Gen2ActError as error:
            self._fail(command, error)
            return
        except Exception as error:
            _log.exception("command %s failed", command.WhichOneof("command"))
            self._fail(command, Internal(f"{type(error).__name__}: {error}"))
            return
        self._send(pb.robot.RobotMessage(result=result))

    def _fail(self, command: pb.robot.RobotCommand, error: Gen2ActError) -> None:
        _log.warning("%s refused: [%s] %s", command.WhichOneof("command"), error.code, error)
        result = pb.robot.CommandResult(
            command_id=command.command_id,
            ok=False,
            error_code=error.code,
            error_message=str(error),
        )
        self._send(pb.robot.RobotMessage(result=result))

    # --- at once ------------------------------------------------------------------------------

    async def _stop(self, reason: str) -> None:
        # A reset that was sent before the stop must not undo it.
        while not self._slow.empty():
            command = self._slow.get_nowait()
            if command.HasField("start_rollout"):
                self._starting.remove(command.start_rollout.stage_id)
            self._fail(command, RobotStopped(f"stopped: {reason}"))
        if self._rollout is not None:
            self._rollout.end(EndReason.STOPPED, reason)
        await self._driver.stop(reason)

    def _end(self, command: pb.robot.EndRollout) -> None:
        if self._rollout is None or command.stage_id != self._stage_id:
            # One that is about to begin must not begin after all.
            if command.stage_id in self._starting:
                self._withdrawn.add(command.stage_id)
            raise InvalidTransition(f"no rollout of stage {command.stage_id!r} is running")
        self._rollout.end(EndReason.END_COMMAND, command.reason)

    def _hold(self, on: bool) -> None:
        if self._rollout is None:
            raise InvalidTransition("no rollout is running")
        self._rollout.pause(on)

    # --- one after the other ------------------------------------------------------------------

    async def _reset_and_capture(self, command: pb.robot.ResetAndCapture) -> pb.common.SceneFrame:
        await self._end_rollout(EndReason.END_COMMAND, "superseded by a reset")
        request = ResetRequest(
            task_id=command.task_id,
            task=command.task,
            new_scene=command.new_scene,
            activity_tasks=tuple(command.activity_tasks),
        )
        self._resetting = True
        try:
            await self._driver.reset(request)
        finally:
            self._resetting = False
        frame = (await self._driver.observe()).frame
        side = min(frame.pixels.shape[0], _SCENE_MAX_SIDE)
        image = frames.encode_jpeg(frames.resize(frame, side), quality=_SCENE_JPEG_QUALITY)
        state = await self._driver.simulator_state()
        return pb.common.SceneFrame(image=image, simulator_state=state)

    async def _start_rollout(self, command: pb.robot.StartRollout) -> None:
        """Checks everything, opens the policy's stream, and sets the loop going.

        Raises:
            Gen2ActError: nothing has moved.
        """
        self._check_may_begin(command.stage_id)
        if self._rollout is not None:
            raise InvalidTransition(f"a rollout of stage {self._stage_id!r} is running")
        if command.max_ticks < 1:
            raise InvalidInput("max_ticks must be at least 1")
        address = command.policy_address or self._config.policy_address
        if not address:
            raise InvalidInput("no policy address: give the robot one, or the command")
        spec = self._checked_spec(command)
        capturer = Capturer(self._driver.robot, spec, self._config.encoding)
        await self._driver.run(capturer.capture)  # a camera or sensor that lacks shows here
        await self._driver.begin_stage(command.task)
        link = self._link_factory(address, command, spec)
        rollout = Rollout(
            RolloutSettings(
                spec=spec,
                max_ticks=command.max_ticks,
                bounds=self._config.bounds,
                latency_allowance=self._config.latency_allowance,
            ),
            self._driver,
            link,
            capturer,
            self._clock_factory(),
            self._watchdog,
            on_tick=lambda tick: self._report(command.stage_id, tick),
        )
        await link.open(rollout)
        try:
            self._check_may_begin(command.stage_id)  # opening took its time
        except Gen2ActError:
            await link.close()
            raise
        self._rollout, self._stage_id = rollout, command.stage_id
        self._rollout_task = asyncio.create_task(self._run(rollout, link, command.stage_id))

    def _check_may_begin(self, stage_id: str) -> None:
        if self._driver.stop_reason is not None:
            raise RobotStopped(
                f"the robot is stopped ({self._driver.stop_reason}) until the next reset"
            )
        if stage_id in self._withdrawn:
            raise InvalidTransition(f"the rollout of stage {stage_id!r} was ended before it began")

    def _checked_spec(self, command: pb.robot.StartRollout) -> ActionSpec:
        spec = ActionSpec.from_proto(command.action_spec)
        if spec.hash != command.spec_hash:
            raise SpecMismatch(
                f"the action spec hashes to {spec.hash[:12]}, the command says "
                f"{command.spec_hash[:12]!r}"
            )
        limits = self._driver.limits
        check_compatible(spec, limits.dimensions, limits.frame, limits.min_control_period_s)
        if self._config.period_s is None:
            return spec
        if self._config.period_s < limits.min_control_period_s:
            raise SpecMismatch(
                f"period {self._config.period_s:g} s is shorter than the driver's minimum, "
                f"{limits.min_control_period_s:g} s"
            )
        return dataclasses.replace(spec, control_period_s=self._config.period_s)

    async def _run(self, rollout: Rollout, link: PolicyLink, stage_id: str) -> None:
        try:
            outcome = await rollout.run()
        finally:
            self._rollout = None
            await link.close()
        _log.info(
            "stage %s ended: %s after %d ticks%s",
            stage_id,
            outcome.reason.value,
            outcome.ticks,
            f" ({outcome.detail})" if outcome.detail else "",
        )
        if outcome.reason is not EndReason.DETACHED:
            self._send(pb.robot.RobotMessage(ended=_ended(stage_id, outcome)))

    async def _end_rollout(self, reason: EndReason, detail: str) -> None:
        if self._rollout is not None:
            self._rollout.end(reason, detail)
        if self._rollout_task is not None:
            await asyncio.wait([self._rollout_task])
            self._rollout_task = None

    def _report(self, stage_id: str, tick: Tick) -> None:
        report = pb.robot.TickReport(
            stage_id=stage_id,
            tick=tick.number,
            terminate_probability=tick.terminate_probability,
            image=tick.image,
            loop_ms=tick.loop_ms,
            held=tick.held,
        )
        self._send(pb.robot.RobotMessage(tick=report))


def _ended(stage_id: str, outcome: RolloutOutcome) -> pb.robot.RolloutEnded:
    ended = pb.robot.RolloutEnded(
        stage_id=stage_id,
        reason=outcome.reason.value,
        detail=outcome.detail,
        ticks=outcome.ticks,
        last_image=outcome.last_image,
    )
    if outcome.verdict is not None:
        ended.verdict.success = outcome.verdict.success
        ended.verdict.success_once = outcome.verdict.success_once
    return ended


def _nobody(message: pb.robot.RobotMessage) -> None:
    """Between attachments there is nobody to tell."""
