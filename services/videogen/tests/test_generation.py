"""One request's way: caching, single flight, fallback, cancellation, bounds."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from gen2act_contracts.errors import (
    BackendRequires,
    DeadlineExceeded,
    Draining,
    Gen2ActError,
    GenerationCancelled,
    GenerationFailed,
    InvalidInput,
    Overloaded,
    PeerUnavailable,
    StoreUnavailable,
    Unavailable,
    UnknownBackend,
    UnsupportedInstruction,
    VideoRejected,
)
from gen2act_contracts.video import decode_mp4
from gen2act_videogen.admission import Admission
from gen2act_videogen.backend import QuotaExceeded, ResultLost
from gen2act_videogen.generation import Generator
from gen2act_videogen.making import Maker
from gen2act_videogen.testing import (
    MemoryVideoStore,
    ScriptedBackend,
    a_request,
    moving_video,
    scene_picture,
)


def no_progress(fraction: float, phase: str) -> None:
    """For callers that do not look."""


def a_generator(
    *backends: ScriptedBackend,
    store: MemoryVideoStore | None = None,
    running: int = 1,
    waiting: int = 4,
    max_generation_s: float = 30.0,
    attempts: int = 1,
) -> Generator:
    maker = Maker(
        store or MemoryVideoStore(),
        Admission(running=running, waiting=waiting),
        max_generation_s=max_generation_s,
        attempts=attempts,
    )
    return Generator(backends, [backend.name for backend in backends], maker)


async def test_the_video_is_stored_under_its_content_with_its_provenance() -> None:
    store = MemoryVideoStore()
    generator = a_generator(ScriptedBackend(), store=store)
    video, cached = await generator.generate(a_request(seed=7), "", no_progress)
    assert not cached
    frames, fps = decode_mp4(store.videos[video.video_id])
    assert frames.shape == (16, 64, 64, 3)
    assert fps == pytest.approx(8.0)
    assert (video.backend, video.model, video.seed) == ("scripted", "scripted/1", 7)
    assert video.prompt == "A person opening the drawer, static camera"
    assert video.seconds > 0
    assert video.gate.motion > 0


async def test_progress_grows_from_queued_to_storing() -> None:
    seen: list[tuple[float, str]] = []
    await a_generator(ScriptedBackend()).generate(
        a_request(), "", lambda fraction, phase: seen.append((fraction, phase))
    )
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    phases = [phase for _, phase in seen]
    assert phases == ["queued", "generating", "scripting", "checking", "encoding", "storing"]


async def test_the_same_request_is_generated_once_while_the_video_lives() -> None:
    backend, store = ScriptedBackend(), MemoryVideoStore()
    generator = a_generator(backend, store=store)
    first, _ = await generator.generate(a_request(), "", no_progress)
    second, cached = await generator.generate(a_request(), "", no_progress)
    assert cached
    assert second == first
    assert len(backend.requests) == 1
    store.videos.clear()  # as if evicted
    _, cached = await generator.generate(a_request(), "", no_progress)
    assert not cached
    assert len(backend.requests) == 2


async def test_seed_scene_state_and_model_make_another_video() -> None:
    backend = ScriptedBackend()
    generator = a_generator(backend)
    for request in (a_request(), a_request(seed=1), a_request(layout=1)):
        await generator.generate(request, "", no_progress)
    backend.model = "scripted/2"
    await generator.generate(a_request(), "", no_progress)
    assert len(backend.requests) == 4


async def test_concurrent_equal_requests_share_one_generation() -> None:
    backend = ScriptedBackend(held=True)
    generator = a_generator(backend)
    calls = [
        asyncio.create_task(generator.generate(a_request(), "", no_progress)) for _ in range(5)
    ]
    await backend.began.wait()
    backend.release.set()
    videos = {video.video_id for video, _ in await asyncio.gather(*calls)}
    assert len(videos) == 1
    assert len(backend.requests) == 1


async def test_one_caller_leaving_does_not_end_the_others_generation() -> None:
    backend = ScriptedBackend(held=True)
    generator = a_generator(backend)
    leaver = asyncio.create_task(generator.generate(a_request(), "", no_progress))
    await backend.began.wait()
    heard: asyncio.Queue[str] = asyncio.Queue()
    stayer = asyncio.create_task(
        generator.generate(a_request(), "", lambda _, phase: heard.put_nowait(phase))
    )
    assert await heard.get() == "scripting"  # a late listener learns where things stand
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    backend.release.set()
    video, _ = await stayer
    assert video.frames == 16
    assert backend.cancelled == 0


async def test_the_last_caller_leaving_cancels_and_frees_the_slot() -> None:
    backend = ScriptedBackend(held=True)
    generator = a_generator(backend, waiting=0)
    call = asyncio.create_task(generator.generate(a_request(), "", no_progress))
    await backend.began.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    backend.held = False
    async with asyncio.timeout(10):
        await generator.generate(a_request(seed=1), "", no_progress)
    assert backend.cancelled == 1


async def test_more_than_the_queue_holds_is_refused_at_once() -> None:
    backend = ScriptedBackend(held=True)
    generator = a_generator(backend, running=1, waiting=1)
    first = asyncio.create_task(generator.generate(a_request(seed=1), "", no_progress))
    await backend.began.wait()
    queued = asyncio.Event()
    second = asyncio.create_task(generator.generate(a_request(seed=2), "", lambda *_: queued.set()))
    await queued.wait()
    with pytest.raises(Overloaded, match="at most 1 and 1"):
        await generator.generate(a_request(seed=3), "", no_progress)
    backend.release.set()
    await asyncio.gather(first, second)


async def test_a_generation_that_takes_too_long_fails_and_is_cancelled() -> None:
    backend = ScriptedBackend(held=True)
    with pytest.raises(DeadlineExceeded):
        await a_generator(backend, max_generation_s=0.05).generate(a_request(), "", no_progress)
    assert backend.cancelled == 1


@pytest.mark.parametrize(
    "failure",
    [
        BackendRequires("no state"),
        UnsupportedInstruction("cannot do that"),
        VideoRejected("static"),
        GenerationFailed("broken"),
        ResultLost("no answer"),
        QuotaExceeded("too many"),
        PeerUnavailable("no route"),
        DeadlineExceeded("too slow"),
    ],
)
async def test_the_next_backend_is_tried_when_one_cannot(failure: Gen2ActError) -> None:
    first = ScriptedBackend(name="first", failures=[failure])
    second = ScriptedBackend(name="second")
    heard: list[str] = []
    video, _ = await a_generator(first, second).generate(
        a_request(), "", lambda _, phase: heard.append(phase)
    )
    assert video.backend == "second"
    assert f"storing (with second; first: {failure})" in heard


@pytest.mark.parametrize(
    "failure",
    [
        InvalidInput("bad picture"),
        StoreUnavailable("no Redis"),
        Overloaded("our own queue"),
        GenerationCancelled("somebody left"),
    ],
)
async def test_no_other_backend_is_tried_when_it_could_not_help(failure: Gen2ActError) -> None:
    first = ScriptedBackend(name="first", failures=[failure])
    second = ScriptedBackend(name="second")
    with pytest.raises(type(failure)):
        await a_generator(first, second).generate(a_request(), "", no_progress)
    assert not second.requests


async def test_a_backend_that_is_not_ready_is_passed_over() -> None:
    first = ScriptedBackend(name="first", unavailable="no renderer")
    second = ScriptedBackend(name="second")
    video, _ = await a_generator(first, second).generate(a_request(), "", no_progress)
    assert video.backend == "second"
    assert not first.requests
    with pytest.raises(Unavailable, match="no renderer"):
        await a_generator(first).generate(a_request(), "", no_progress)


async def test_a_named_backend_has_no_fallback() -> None:
    first = ScriptedBackend(name="first", failures=[BackendRequires("no state")])
    second = ScriptedBackend(name="second")
    with pytest.raises(BackendRequires, match="no state"):
        await a_generator(first, second).generate(a_request(), "first", no_progress)


async def test_when_all_fail_every_reason_is_told() -> None:
    first = ScriptedBackend(name="first", failures=[BackendRequires("no state")])
    second = ScriptedBackend(name="second", failures=[UnsupportedInstruction("unknown task")])
    with pytest.raises(GenerationFailed, match=r"no state.*unknown task"):
        await a_generator(first, second).generate(a_request(), "", no_progress)


async def test_all_away_is_worth_a_retry_but_not_if_one_has_worked_in_vain() -> None:
    lacks = ScriptedBackend(name="lacks", failures=[BackendRequires("no state")])
    away = ScriptedBackend(name="away", failures=[PeerUnavailable("no route")] * 2)
    with pytest.raises(Unavailable):
        await a_generator(lacks, away).generate(a_request(), "", no_progress)
    worked = ScriptedBackend(name="worked", failures=[ResultLost("no answer")])
    with pytest.raises(GenerationFailed) as failure:
        await a_generator(worked, away).generate(a_request(), "", no_progress)
    assert not failure.value.retryable


@pytest.mark.parametrize("failure", [VideoRejected("static"), GenerationFailed("broken")])
async def test_a_failed_generation_is_repeated_with_the_next_seeds(
    failure: Gen2ActError,
) -> None:
    backend = ScriptedBackend(failures=[failure, failure])
    heard: list[str] = []
    generator = a_generator(backend, attempts=3)
    video, _ = await generator.generate(
        a_request(seed=2**64 - 1), "", lambda _, phase: heard.append(phase)
    )
    assert [request.seed for request in backend.requests] == [2**64 - 1, 0, 1]
    assert video.seed == 1
    assert f"scripting (attempt 2 of 3: {failure})" in heard
    _, cached = await generator.generate(a_request(seed=2**64 - 1), "", no_progress)
    assert cached


async def test_seeds_are_tried_up_to_the_bound_before_the_next_backend() -> None:
    first = ScriptedBackend(name="first", failures=[VideoRejected("static")] * 9)
    second = ScriptedBackend(name="second")
    video, _ = await a_generator(first, second, attempts=3).generate(a_request(), "", no_progress)
    assert len(first.requests) == 3
    assert (video.backend, video.seed) == ("second", 0)


@pytest.mark.parametrize(
    "failure",
    [
        ResultLost("no answer"),
        UnsupportedInstruction("cannot do that"),
        BackendRequires("no state"),
        QuotaExceeded("too many"),
        PeerUnavailable("no route"),
    ],
)
async def test_what_no_seed_can_mend_is_not_repeated(failure: Gen2ActError) -> None:
    backend = ScriptedBackend(failures=[failure])
    with pytest.raises(type(failure)):
        await a_generator(backend, attempts=3).generate(a_request(), "", no_progress)
    assert len(backend.requests) == 1


async def test_a_recording_does_not_change_with_the_seed() -> None:
    backend = ScriptedBackend(name="file", failures=[VideoRejected("static")])
    with pytest.raises(VideoRejected):
        await a_generator(backend, attempts=3).generate(
            a_request(source_video_id="x"), "", no_progress
        )
    assert len(backend.requests) == 1


async def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownBackend, match="enabled: scripted"):
        await a_generator(ScriptedBackend()).generate(a_request(), "sora", no_progress)


async def test_a_recording_with_another_backend_is_refused() -> None:
    with pytest.raises(InvalidInput, match="source_video_id"):
        await a_generator(ScriptedBackend(), ScriptedBackend(name="file")).generate(
            a_request(source_video_id="x"), "scripted", no_progress
        )


async def test_a_recording_selects_the_file_backend() -> None:
    generator = a_generator(ScriptedBackend(), ScriptedBackend(name="file"))
    video, _ = await generator.generate(a_request(source_video_id="x"), "", no_progress)
    assert video.backend == "file"
    assert video.source_video_id == "x"


async def test_simulator_state_reaches_only_backends_that_declare_it() -> None:
    blind = ScriptedBackend(name="blind")
    seeing = ScriptedBackend(name="seeing", uses_simulator_state=True)
    generator = a_generator(blind, seeing)
    for name in ("blind", "seeing"):
        await generator.generate(a_request(state=b"secret"), name, no_progress)
    assert blind.requests[0].simulator_state == b""
    assert seeing.requests[0].simulator_state == b"secret"


async def test_a_video_of_another_scene_is_never_stored() -> None:
    store = MemoryVideoStore()
    backend = ScriptedBackend(frames=moving_video(scene_picture(5)))
    with pytest.raises(VideoRejected, match="resemble"):
        await a_generator(backend, store=store).generate(a_request(), "", no_progress)
    assert not store.videos


async def test_a_static_video_is_never_stored() -> None:
    store = MemoryVideoStore()
    backend = ScriptedBackend(frames=np.repeat(scene_picture()[None], 16, axis=0))
    with pytest.raises(VideoRejected, match="static"):
        await a_generator(backend, store=store).generate(a_request(), "", no_progress)
    assert not store.videos


async def test_no_work_is_done_when_the_store_is_down() -> None:
    backend = ScriptedBackend()
    store = MemoryVideoStore(failure=StoreUnavailable("no Redis"))
    with pytest.raises(StoreUnavailable):
        await a_generator(backend, store=store).generate(a_request(), "", no_progress)
    assert not backend.requests


async def test_a_store_lost_in_the_middle_is_an_error_and_the_next_call_works() -> None:
    backend, store = ScriptedBackend(held=True), MemoryVideoStore()
    generator = a_generator(backend, store=store)
    call = asyncio.create_task(generator.generate(a_request(), "", no_progress))
    await backend.began.wait()
    store.failure = StoreUnavailable("gone")
    backend.release.set()
    with pytest.raises(StoreUnavailable):
        await call
    store.failure = None
    video, cached = await generator.generate(a_request(), "", no_progress)
    assert not cached
    assert video.video_id in store.videos


async def test_closing_tells_callers_that_the_service_stops() -> None:
    backend = ScriptedBackend(held=True)
    generator = a_generator(backend)
    call = asyncio.create_task(generator.generate(a_request(), "", no_progress))
    await backend.began.wait()
    await generator.close()
    with pytest.raises(Draining):
        await call
    assert backend.cancelled == 1
