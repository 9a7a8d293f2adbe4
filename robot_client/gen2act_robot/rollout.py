"""The control loop: one rollout of the policy on the robot.

One tick of the default mode (latency allowance 60 % of the period):

    t_n                 capture frame n, send it
    t_n … t_n + 0.6 P   wait for the reply to frame n; the arm is finishing the motion it was given
                        in tick n-1, so inference and motion overlap
    on arrival          gate, then begin chunk n[0], to be finished one period later
    at t_n + 0.6 P      reply late: begin chunk m[n-m] of the newest chunk m that is still valid;
                        none left: hold; held for longer than the bound: stop
    t_(n+1)             from start + n * P, never from "now"

A reply that comes after its tick's decision is kept: its remaining actions are the next fallback.
With an allowance of 0 nothing is waited for and tick n runs on the chunk of an earlier frame.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gen2act_contracts import pb
from gen2act_contracts.errors import Gen2ActError, UnsafeAction
from gen2act_contracts.spec import ActionSpec
from gen2act_robot.capture import Capture, Capturer
from gen2act_robot.chunks import ChunkBuffer, TimedChunk
from gen2act_robot.clock import Clock
from gen2act_robot.driver_thread import DriverThread
from gen2act_robot.fallback import Fallback, FallbackPolicy, SafetyBounds
from gen2act_robot.gate import ActionGate
from gen2act_robot.policy_link import OutgoingObservation, PolicyLink, PolicyReply
from gen2act_robot.robot import StageVerdict
from gen2act_robot.schedule import TickSchedule
from gen2act_robot.watchdog import Watchdog

_log = logging.getLogger(__name__)


class EndReason(enum.Enum):
    """The values of `RolloutEnded.reason`, and one that is never sent."""

    END_COMMAND = "END_COMMAND"
    MAX_TICKS = "MAX_TICKS"
    STOPPED = "STOPPED"
    POLICY_LOST = "POLICY_LOST"
    SAFETY = "SAFETY"
    DETACHED = "DETACHED"  # the lease ended: nobody is there to be told; the robot holds


@dataclass(frozen=True)
class Tick:
    """What happened in one control period."""

    number: int  # from 0, counts executed ticks
    terminate_probability: float  # of this tick's own reply; 0 if that was late, so that a debounce
    # never counts one reply twice
    image: pb.common.Image
    loop_ms: float  # capture to action begun [ms]
    held: bool


@dataclass(frozen=True)
class RolloutOutcome:
    reason: EndReason
    detail: str
    ticks: int
    last_image: pb.common.Image | None  # None: the camera failed too
    verdict: StageVerdict | None  # simulated robots only


@dataclass(frozen=True)
class RolloutSettings:
    spec: ActionSpec
    max_ticks: int
    bounds: SafetyBounds
    latency_allowance: float = 0.6  # share of the period to wait for a tick's own reply

    def __post_init__(self) -> None:
        if not 0.0 <= self.latency_allowance < 1.0:
            raise ValueError(f"latency_allowance must be in [0, 1), got {self.latency_allowance}")


class Rollout:
    """Runs until told to end, the tick budget is used up, or something is wrong."""

    def __init__(
        self,
        settings: RolloutSettings,
        driver: DriverThread,
        link: PolicyLink,
        capturer: Capturer,
        clock: Clock,
        watchdog: Watchdog,
        on_tick: Callable[[Tick], None],
    ) -> None:
        self._settings = settings
        self._driver = driver
        self._link = link
        self._capturer = capturer
        self._clock = clock
        self._watchdog = watchdog
        self._on_tick = on_tick
        self._period_s = settings.spec.control_period_s
        self._gate = ActionGate(settings.spec, driver.limits)
        self._fallback = FallbackPolicy(settings.bounds)
        self._chunks = ChunkBuffer()
        self._sent: dict[int, tuple[int, int]] = {}  # sequence → (tick, capture [ns])
        self._dropped: set[int] = set()
        self._sequence = 0
        self._ticks = 0
        self._paused = False
        self._ended: tuple[EndReason, str] | None = None
        self._news = asyncio.Event()  # a reply, a drop, or an interrupt
        self._interrupt = asyncio.Event()  # the end, or a pause begun or ended

    # --- from outside -------------------------------------------------------------------------

    def end(self, reason: EndReason, detail: str = "") -> None:
        """Ends the rollout before its next motion; the first reason given counts."""
        if self._ended is None:
            self._ended = (reason, detail)
        self._signal()

    def pause(self, on: bool) -> None:
        """Holds, with the stream kept open, or goes on."""
        self._paused = on
        self._signal()

    def on_reply(self, reply: PolicyReply) -> None:
        place = self._sent.get(reply.sequence)
        if place is None:  # older than any chunk could be valid for, or never sent
            _log.info("reply to unknown or long past observation %d ignored", reply.sequence)
            return
        tick, capture_ns = place
        try:
            self._gate.check_chunk(reply.chunk)
        except UnsafeAction as error:
            self.end(EndReason.SAFETY, f"[{error.code}] {error}")
            return
        expires_ns = capture_ns + round(self._settings.spec.chunk_length * self._period_s * 1e9)
        if reply.expires_ns > 0:
            expires_ns = min(expires_ns, reply.expires_ns)
        timed = TimedChunk(
            reply.chunk, reply.sequence, tick, expires_ns, reply.terminate_probability
        )
        if not self._chunks.offer(timed, self._clock.now_ns()):
            _log.info("stale reply to observation %d ignored", reply.sequence)
            self._dropped.add(reply.sequence)
        self._news.set()

    def on_dropped(self, sequence: int, reason: str) -> None:
        _log.info("policy dropped observation %d: %s", sequence, reason)
        if sequence in self._sent:
            self._dropped.add(sequence)
            self._news.set()

    def on_failed(self, error: Gen2ActError) -> None:
        self.end(EndReason.POLICY_LOST, f"[{error.code}] {error}")

    # --- the loop -----------------------------------------------------------------------------

    async def run(self) -> RolloutOutcome:
        """Ticks until the end. The link must be open. The robot is left holding, or stopped."""
        try:
            await self._loop()
        except Gen2ActError as error:
            self.end(EndReason.SAFETY, f"[{error.code}] {error}")
        except Exception as error:
            _log.exception("driver failed")
            self.end(EndReason.SAFETY, f"driver failed: {type(error).__name__}: {error}")
        finally:
            self._watchdog.disarm()
        return await self._finish()

    async def _loop(self) -> None:
        schedule = TickSchedule(self._clock.now_ns(), self._period_s)
        tick = 0
        while self._ended is None:
            if self._driver.stop_reason is not None:
                # A commanded stop ends the rollout before it latches: this one is the watchdog's.
                self.end(EndReason.SAFETY, self._driver.stop_reason)
            elif self._paused:
                await self._stay_paused()
                # A new time line: what was planned before the pause is void.
                self._chunks.clear()
                self._sent.clear()
                self._fallback.acted()
                schedule, tick = TickSchedule(self._clock.now_ns(), self._period_s), 0
            elif self._ticks >= self._settings.max_ticks:
                self.end(EndReason.MAX_TICKS, f"{self._settings.max_ticks} ticks")
            else:
                await self._tick(schedule, tick)
                tick = schedule.next_after(tick, self._clock.now_ns())
                await self._sleep_until(schedule.time_ns(tick))

    async def _sleep_until(self, begin_ns: int) -> None:
        self._watchdog.feed(self._clock.budget_ms(begin_ns))
        # In a loop: a pause that was withdrawn at once must not begin the next tick early.
        while self._ended is None and not self._paused and self._clock.now_ns() < begin_ns:
            self._interrupt.clear()
            await self._clock.sleep_until(begin_ns, self._interrupt)

    async def _stay_paused(self) -> None:
        while self._paused and self._ended is None and self._driver.stop_reason is None:
            self._interrupt.clear()
            await self._driver.hold()
            until_ns = self._clock.now_ns() + int(self._period_s * 1e9)
            self._watchdog.feed(self._clock.budget_ms(until_ns))
            await self._clock.wait(self._interrupt, until_ns)

    async def _tick(self, schedule: TickSchedule, tick: int) -> None:
        self._watchdog.feed()
        begin_ns, watch_ns = self._clock.now_ns(), self._clock.watch_ns()
        capture = await self._driver.run(self._capturer.capture)
        sequence = self._send(capture, tick, begin_ns, schedule)
        allowance_ns = int(self._settings.latency_allowance * self._period_s * 1e9)
        fresh = await self._await_reply(sequence, schedule.time_ns(tick) + allowance_ns)
        if self._ended is not None or self._paused:
            return
        held = await self._act(schedule, capture)
        newest = self._chunks.newest
        report = Tick(
            number=self._ticks,
            terminate_probability=newest.terminate_probability if fresh and newest else 0.0,
            image=capture.report_image,
            loop_ms=(self._clock.watch_ns() - watch_ns) / 1e6,
            held=held,
        )
        self._ticks += 1
        self._on_tick(report)

    def _send(self, capture: Capture, tick: int, begin_ns: int, schedule: TickSchedule) -> int:
        self._sequence += 1
        horizon = self._settings.spec.chunk_length
        self._sent = {s: place for s, place in self._sent.items() if tick - place[0] < horizon}
        self._dropped &= self._sent.keys()
        self._sent[self._sequence] = (tick, begin_ns)
        self._link.send(
            OutgoingObservation(
                sequence=self._sequence,
                capture_ns=begin_ns,
                budget_ms=self._clock.budget_ms(schedule.time_ns(tick + 1)),
                image=capture.image,
                proprioception=capture.proprioception,
            )
        )
        return self._sequence

    async def _await_reply(self, sequence: int, deadline_ns: int) -> bool:
        """Whether the reply to `sequence` is here before the deadline."""
        while True:
            self._news.clear()
            newest = self._chunks.newest
            if newest is not None and newest.sequence == sequence:
                return True
            if sequence in self._dropped or self._ended is not None or self._paused:
                return False
            self._watchdog.feed(self._clock.budget_ms(deadline_ns))
            if not await self._clock.wait(self._news, deadline_ns):
                return False

    async def _act(self, schedule: TickSchedule, capture: Capture) -> bool:
        """Begins this tick's motion, or holds (True), or stops."""
        # The tick of this very moment, not the loop's: a slow camera may have cost a period.
        self._watchdog.feed()
        now_ns = self._clock.now_ns()
        planned = self._chunks.action_for(schedule.tick_at(now_ns), now_ns)
        if planned is not None:
            action = self._gate.admit(planned, capture.ee_position_m)
            await self._driver.apply(action)
            self._fallback.acted()
            return False
        if self._fallback.missing(now_ns) is Fallback.STOP:
            held_ms = self._fallback.held_ms(now_ns)
            self.end(EndReason.POLICY_LOST, f"no valid action for {held_ms:.0f} ms")
        else:
            await self._driver.hold()
        return True

    async def _finish(self) -> RolloutOutcome:
        assert self._ended is not None
        reason, detail = self._ended
        if reason in (EndReason.SAFETY, EndReason.POLICY_LOST, EndReason.STOPPED):
            await self._driver.stop(detail or reason.value)
        else:
            await self._driver.hold()
        last_image: pb.common.Image | None = None
        verdict: StageVerdict | None = None
        try:
            last_image = (await self._driver.run(self._capturer.capture)).report_image
            verdict = await self._driver.verdict()
        except Exception:  # the end must be reported also when the camera is what broke
            _log.exception("no last frame")
        return RolloutOutcome(reason, detail, self._ticks, last_image, verdict)

    def _signal(self) -> None:
        self._news.set()
        self._interrupt.set()
