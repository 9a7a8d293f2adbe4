"""Cached rollouts against the naive policy, which encodes all 24 images at every tick."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gen2act_contracts import video
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.bundle import load_bundle
from gen2act_policy.decoding import decode_actions
from gen2act_policy.goals import goal_frames
from gen2act_policy.history import Pixels
from gen2act_policy.local import LocalPolicy
from gen2act_policy.runtime import OnnxRuntime, StepOutput
from gen2act_policy.testing import RecordingRuntime, small_spec, write_random_bundle
from gen2act_policy.testing.harness import ServedPolicy, video_store

TICKS = 13
Serve = Callable[..., Awaitable[ServedPolicy]]


class Naive:
    """The reference: no cache of any kind (paper, section 3.2, read literally)."""

    def __init__(self, runtime: OnnxRuntime, spec: ActionSpec, human_video: bytes) -> None:
        self._runtime, self._spec = runtime, spec
        self._goal_images = goal_frames(human_video, 16, spec.image_size)

    def step(self, images: Sequence[Pixels], measured: Sequence[Sequence[float]]) -> StepOutput:
        """From all frames of the rollout so far, oldest first."""
        length = self._spec.history_length
        recent = (
            ([images[0]] * length + list(images))[-length:]
            if len(images) < length
            else (list(images[-length:]))
        )
        rows = [measured[0]] * (length - len(measured)) + list(measured[-length:])
        features = self._runtime.encode(np.concatenate([self._goal_images, np.stack(recent)]))
        goal = self._runtime.resample(features[None, :16])
        proprioception = np.asarray([rows], np.float32) if self._spec.uses_proprioception else None
        return self._runtime.step(features[None, 16:], goal[None], proprioception)


def human_video(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (23, 4, 4, 3), dtype=np.uint8)
    return video.encode_mp4(coarse.repeat(8, axis=1).repeat(8, axis=2), 10)


def recording(seed: int) -> tuple[list[Pixels], list[list[float]]]:
    """What one robot sees and measures over a rollout."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(TICKS)]
    measured = [[float(v) for v in rng.uniform(0, 1, 4).astype(np.float32)] for _ in range(TICKS)]
    return images, measured


def assert_same(actual: StepOutput, expected: StepOutput) -> None:
    for name in ("action_logits", "gripper_logits", "terminate_logits"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), atol=1e-4)


@pytest.fixture(params=[False, True], ids=["images", "images+proprioception"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ActionSpec, OnnxRuntime]:
    write_random_bundle(tmp_path / "model", small_spec(uses_proprioception=request.param))
    bundle = load_bundle(tmp_path / "model")
    return bundle.spec, OnnxRuntime(bundle, threads=1)


async def serve_model(
    serve: Serve, spec: ActionSpec, runtime: OnnxRuntime
) -> tuple[ServedPolicy, RecordingRuntime]:
    recorder = RecordingRuntime(runtime)
    store = video_store(v1=human_video(1), v2=human_video(2))
    return await serve(recorder, store, spec=spec), recorder


async def test_cached_equals_naive_over_a_rollout(
    serve: Serve, model: tuple[ActionSpec, OnnxRuntime]
) -> None:
    spec, runtime = model
    policy, recorder = await serve_model(serve, spec, runtime)
    naive = Naive(runtime, spec, human_video(1))
    images, measured = recording(5)
    rollout = await policy.open("v1")
    for tick in range(TICKS):
        await rollout.send(tick, images[tick], proprioception=measured[tick])
        reply = await rollout.action(tick)
        expected = naive.step(images[: tick + 1], measured[: tick + 1])
        assert_same(recorder.outputs[-1], expected)
        ((chunk, terminate),) = decode_actions(expected, spec)
        np.testing.assert_allclose(reply.chunk.values, chunk.values.ravel(), atol=1e-4)
        np.testing.assert_allclose(reply.chunk.gripper, chunk.gripper, atol=1e-4)
        assert reply.terminate_probability == pytest.approx(terminate, abs=1e-4)
    assert recorder.encoded == 16 + TICKS  # the naive policy encodes 24 a tick


@pytest.mark.parametrize("lost_at", [3, 10], ids=["while padded", "with a full history"])
async def test_a_reconnected_rollout_equals_naive(
    serve: Serve, model: tuple[ActionSpec, OnnxRuntime], lost_at: int
) -> None:
    spec, runtime = model
    policy, recorder = await serve_model(serve, spec, runtime)
    naive = Naive(runtime, spec, human_video(1))
    images, measured = recording(6)
    rollout = await policy.open("v1")
    for tick in range(lost_at):
        await rollout.send(tick, images[tick], proprioception=measured[tick])
        await rollout.action(tick)
    rollout.cancel()

    again = await policy.open("v1")
    for tick in range(max(0, lost_at - 8), lost_at):
        await again.send(tick, images[tick], proprioception=measured[tick], replayed=True)
    for tick in range(lost_at, TICKS):
        await again.send(tick, images[tick], proprioception=measured[tick])
        await again.action(tick)
        assert_same(recorder.outputs[-1], naive.step(images[: tick + 1], measured[: tick + 1]))


async def test_robots_in_one_batch_get_what_each_gets_alone(
    serve: Serve, model: tuple[ActionSpec, OnnxRuntime]
) -> None:
    spec, runtime = model
    policy, recorder = await serve_model(serve, spec, runtime)
    robots = [("v1", *recording(7)), ("v2", *recording(8)), ("v1", *recording(9))]
    references = [Naive(runtime, spec, human_video(int(video_id[1]))) for video_id, _, _ in robots]
    rollouts = [await policy.open(video_id) for video_id, _, _ in robots]
    other = await policy.open("v2")  # keeps the inference thread busy while the robots send
    images_of_other, measured_of_other = recording(10)
    batches: set[int] = set()
    for tick in range(TICKS):
        recorder.gate.hold()
        await other.send(tick, images_of_other[tick], proprioception=measured_of_other[tick])
        await asyncio.to_thread(recorder.gate.wait_until_held)
        for rollout, (_, images, measured) in zip(rollouts, robots, strict=True):
            await rollout.send(tick, images[tick], proprioception=measured[tick])
        await policy.until_waiting(len(robots))
        recorder.gate.release()
        await other.action(tick)
        for rollout, naive, (_, images, measured) in zip(rollouts, references, robots, strict=True):
            reply = await rollout.action(tick)
            batches.add(reply.timing.batch)
            ((chunk, terminate),) = decode_actions(
                naive.step(images[: tick + 1], measured[: tick + 1]), spec
            )
            np.testing.assert_allclose(reply.chunk.values, chunk.values.ravel(), atol=1e-4)
            np.testing.assert_allclose(reply.chunk.gripper, chunk.gripper, atol=1e-4)
            assert reply.terminate_probability == pytest.approx(terminate, abs=1e-4)
    assert batches == {3}
    assert len(recorder.outputs) == 2 * TICKS


def test_the_local_policy_equals_naive(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, small_spec(uses_proprioception=True))
    bundle = load_bundle(tmp_path)
    naive = Naive(OnnxRuntime(bundle, threads=1), bundle.spec, human_video(1))
    local = LocalPolicy(tmp_path, threads=1)
    frames, _ = video.decode_mp4(human_video(1))
    images, measured = recording(3)
    local.start(frames)
    for tick in range(TICKS):
        chunk, terminate = local.act(images[tick], measured[tick])
        ((expected, done),) = decode_actions(
            naive.step(images[: tick + 1], measured[: tick + 1]), bundle.spec
        )
        np.testing.assert_allclose(chunk.values, expected.values, atol=1e-6)
        np.testing.assert_allclose(chunk.gripper, expected.gripper, atol=1e-4)
        assert terminate == pytest.approx(done, abs=1e-4)
