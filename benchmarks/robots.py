"""Robots on loopback: at a fixed pace whatever comes back, or one after the other without pause."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from PIL import Image as PillowImage
from servers import VIDEO_ID

from gen2act_contracts import CONTRACT_VERSION, frames, pb
from gen2act_contracts.frames import Frame
from gen2act_contracts.spec import ActionSpec
from gen2act_servicekit import grpc_client

DRAIN_S = 3.0
"""[s] that outstanding replies get after the last observation."""


@dataclass
class Run:
    """What came back. Latencies [ms] are from the time an observation was due."""

    latency_ms: list[float] = field(default_factory=list)
    model_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)
    queue_ms: list[float] = field(default_factory=list)
    batch: list[int] = field(default_factory=list)
    dropped: int = 0
    unanswered: int = 0
    errors: list[str] = field(default_factory=list)
    late_start_ms: list[float] = field(default_factory=list)
    """How late the load generator itself sent; large values invalidate a run."""

    def above_model_ms(self) -> list[float]:
        """What each answered observation took beyond the encoder and the step."""
        return [a - b for a, b in zip(self.latency_ms, self.model_ms, strict=True)]

    def add(self, other: Run) -> None:
        """Takes in what came back in another run."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def answered(self, reply: Any, seconds: float) -> None:
        """Counts a reply (None: the echo's) that came `seconds` after its observation."""
        if reply is not None and reply.WhichOneof("message") == "dropped":
            self.dropped += 1
            return
        self.latency_ms.append(1e3 * seconds)
        if reply is not None:
            timing = reply.action.timing
            self.model_ms.append(timing.encode_ms + timing.step_ms)
            self.decode_ms.append(timing.decode_ms)
            self.queue_ms.append(timing.queue_ms)
            self.batch.append(timing.batch)


def images(size: int, encoding: str, count: int = 16) -> list[pb.common.Image]:
    """Scenes with the detail of a camera image: about 8 kB as a 224 px JPEG."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = PillowImage.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), PillowImage.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 1.5, smooth.shape), 0, 255).astype(np.uint8)
        frame = Frame(noisy)
        made.append(frames.encode_jpeg(frame) if encoding == "jpeg" else frames.encode_raw(frame))
    return made


def kilobytes(image: pb.common.Image) -> float:
    return len(image.data) / 1000


async def spec_of(address: str) -> tuple[ActionSpec, str, str]:
    """Action spec, its hash, and the model's name."""
    async with grpc_client.channel(address) as channel:
        stub = pb.policy_grpc.PolicyStub(channel)
        told = await stub.GetSpec(
            pb.policy.GetSpecRequest(contract_version=CONTRACT_VERSION), timeout=10
        )
    return ActionSpec.from_proto(told.action_spec), told.spec_hash, told.model_name


async def drive(
    address: str,
    *,
    robots: int,
    rate_hz: float,
    seconds: float,
    pictures: list[pb.common.Image],
    budget_ms: float,
    method: str | None = None,
    warm_s: float = 1.0,
    seed: int = 0,
) -> Run:
    """`robots` streams at `rate_hz` each, evenly spread; what came in `warm_s` is not counted.

    With `method` the streams go there as raw bytes, without a handshake (the echo).
    """
    run = Run()
    phases = np.random.default_rng(seed).permutation(robots) / robots
    async with _streams(address, robots, method) as (streams, proprioception):
        begin = time.perf_counter() + 0.2
        await asyncio.gather(
            *(
                _robot(
                    stream,
                    run,
                    due=begin + phase / rate_hz,
                    period=1 / rate_hz,
                    count=round((seconds + warm_s) * rate_hz),
                    counted_from=begin + warm_s,
                    pictures=pictures,
                    budget_ms=budget_ms,
                    proprioception=proprioception,
                    raw=method is not None,
                )
                for stream, phase in zip(streams, phases, strict=True)
            )
        )
    return run


async def ping_pong(
    address: str,
    *,
    robots: int,
    seconds: float,
    pictures: list[pb.common.Image],
    method: str | None = None,
    warm_s: float = 1.0,
) -> Run:
    """The robots take turns, each as soon as the one before it was answered."""
    run = Run()
    async with _streams(address, robots, method) as (streams, proprioception):
        begin = time.perf_counter()
        for turn in itertools.count():
            request = _request(turn + 1, pictures[turn % len(pictures)], 1000.0, proprioception)
            message = request.SerializeToString() if method else request
            stream = streams[turn % robots]
            sent = time.perf_counter()
            await stream.write(message)
            reply = await stream.read()
            now = time.perf_counter()
            if sent - begin > warm_s:
                run.answered(reply if method is None else None, now - sent)
            if now - begin > seconds + warm_s:
                return run
    raise AssertionError("unreachable")


@asynccontextmanager
async def _streams(
    address: str, robots: int, method: str | None
) -> AsyncIterator[tuple[list[Any], bool]]:
    """Open streams, and whether the model wants proprioception."""
    channels = [grpc_client.channel(address) for _ in range(min(robots, 8))]
    streams: list[Any] = []
    try:
        if method:
            streams = [channels[i % len(channels)].stream_stream(method)() for i in range(robots)]
            yield streams, False
            return
        spec, spec_hash, _ = await spec_of(address)
        for number in range(robots):
            channel = channels[number % len(channels)]
            streams.append(await _open(channel, f"robot-{number}", spec_hash))
        yield streams, spec.uses_proprioception
    finally:
        for stream in streams:
            stream.cancel()
        for channel in channels:
            await channel.close()


async def _open(channel: grpc.aio.Channel, session_id: str, spec_hash: str) -> Any:
    stub = pb.policy_grpc.PolicyStub(channel)
    goal = await stub.PrepareGoal(pb.policy.PrepareGoalRequest(video_id=VIDEO_ID), timeout=60)
    stream = stub.Rollout()
    opening = pb.policy.OpenRollout(
        session_id=session_id,
        goal_id=goal.goal_id,
        contract_version=CONTRACT_VERSION,
        spec_hash=spec_hash,
    )
    await stream.write(pb.policy.RolloutRequest(open=opening))
    await stream.read()
    return stream


async def _robot(
    stream: Any,
    run: Run,
    *,
    due: float,
    period: float,
    count: int,
    counted_from: float,
    pictures: list[pb.common.Image],
    budget_ms: float,
    proprioception: bool,
    raw: bool,
) -> None:
    sent: dict[int, float] = {}

    async def listen() -> None:
        for answered in itertools.count(1):
            reply = await stream.read()
            if reply is grpc.aio.EOF:
                raise ConnectionError(f"the stream ended: {await stream.details()}")
            now = time.perf_counter()
            sequence = answered if raw else (reply.action.sequence or reply.dropped.sequence)
            was_due = sent.pop(sequence)
            if was_due >= counted_from:
                run.answered(None if raw else reply, now - was_due)

    listener = asyncio.create_task(listen())
    for sequence in range(1, count + 1):
        picture = pictures[sequence % len(pictures)]
        request = _request(sequence, picture, budget_ms, proprioception)
        message = request.SerializeToString() if raw else request
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        now = time.perf_counter()
        # asyncio wakes up to a millisecond late; that is not the service's time.
        sent[sequence] = due if now - due > 0.005 else now
        if due >= counted_from:
            run.late_start_ms.append(1e3 * (now - due))
        if listener.done():
            break
        await stream.write(message)
        due += period
    end = time.perf_counter() + DRAIN_S
    while sent and time.perf_counter() < end and not listener.done():
        await asyncio.sleep(0.01)
    run.unanswered += sum(bool(due >= counted_from) for due in sent.values())
    listener.cancel()
    failure = None if listener.cancelled() or not listener.done() else listener.exception()
    if failure is not None:
        run.errors.append(str(failure))


def _request(
    sequence: int, picture: pb.common.Image, budget_ms: float, proprioception: bool
) -> pb.policy.RolloutRequest:
    observation = pb.policy.Observation(
        sequence=sequence,
        capture_monotonic_ns=time.monotonic_ns(),
        budget_ms=budget_ms,
        image=picture,
    )
    if proprioception:
        observation.proprioception.ee_position_m.extend((0.0, 0.6, 0.2))
        observation.proprioception.gripper_opening = 1.0
    return pb.policy.RolloutRequest(observation=observation)
