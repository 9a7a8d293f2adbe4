"""One video with one backend: found or generated, checked, encoded, stored.

A generation that fails, or whose video does not pass the gate, is repeated with the next seeds. The
progress of a further attempt says so in every phase, because a slow reader sees only the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from gen2act_contracts.errors import (
    BackendRequires,
    DeadlineExceeded,
    Gen2ActError,
    GenerationCancelled,
    GenerationFailed,
    Unavailable,
    UnsupportedInstruction,
)
from gen2act_contracts.video import encode_mp4
from gen2act_servicekit import logs
from gen2act_videogen import gate
from gen2act_videogen.admission import Admission
from gen2act_videogen.backend import (
    BackendVideo,
    ProgressCallback,
    ResultLost,
    VideoBackend,
    VideoRequest,
)
from gen2act_videogen.metrics import GENERATION_SECONDS, GENERATIONS
from gen2act_videogen.store import StoredVideo, VideoStore, content_id

_LOG = logs.get(__name__)

# Shares of the progress bar: the backend's own part lies between these.
_BACKEND_FROM, _BACKEND_TO = 0.05, 0.85
_MAX_NOTE_CHARS = 120
# Failures that no other seed can mend, or that must not be repeated.
_FINAL = (BackendRequires, UnsupportedInstruction, GenerationCancelled, ResultLost)


class BackendNotReady(Unavailable):
    """This backend cannot work now; another of the order may. Travels as `Unavailable`."""


class Maker:
    """Makes videos with whatever backend it is handed.

    Args:
        store: where finished videos go.
        admission: bounds generations at work and in the queue.
        max_generation_s: one attempt longer than this fails, whatever its callers' deadlines [s].
        attempts: seeds tried, the asked one and those after it.
    """

    def __init__(
        self,
        store: VideoStore,
        admission: Admission,
        *,
        max_generation_s: float,
        attempts: int = 1,
    ) -> None:
        self._store = store
        self._admission = admission
        self._max_generation_s = max_generation_s
        self._attempts = attempts

    async def make(
        self, backend: VideoBackend, request: VideoRequest, key: str, tell: ProgressCallback
    ) -> tuple[StoredVideo, bool]:
        """The stored video, and whether it was there before.

        Args:
            backend: makes it.
            request: what is wanted.
            key: `request_key` of both; what is made is found under it again, whatever seed it took.
            tell: hears of the progress.

        Raises:
            Gen2ActError: as the backends, the gate, the store and the admission raise; of several
                attempts the last one's.
        """
        outcome = "failed"
        try:
            found = await self._store.find(key)
            if found is not None:
                outcome = "cached"
                return found, True
            video = await self._generate(backend, request, key, tell)
            outcome = "made"
            return video, False
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Gen2ActError as error:
            outcome = error.code.lower()
            raise
        finally:
            GENERATIONS.labels(backend.name, outcome).inc()

    async def _generate(
        self, backend: VideoBackend, request: VideoRequest, key: str, tell: ProgressCallback
    ) -> StoredVideo:
        availability = backend.availability()
        if not availability.available:
            raise BackendNotReady(
                f"backend {backend.name!r} is not available: {availability.reason}",
                backend=backend.name,
            )
        # A person's own recording does not change with the seed.
        attempts = 1 if request.source_video_id else self._attempts
        tell(0.0, "queued")
        async with self._admission.enter():
            for number in range(1, attempts + 1):
                seeded = replace(request, seed=(request.seed + number - 1) % 2**64)
                try:
                    async with _time_limit(self._max_generation_s):
                        return await self._attempt(backend, seeded, key, tell)
                except GenerationFailed as error:
                    if number == attempts or isinstance(error, _FINAL):
                        raise
                    GENERATIONS.labels(backend.name, error.code.lower()).inc()
                    _LOG.info("another_seed", backend=backend.name, reason=str(error))
                    tell = noted(tell, f"attempt {number + 1} of {attempts}: {error}")
        raise AssertionError("attempts is at least 1")

    async def _attempt(
        self, backend: VideoBackend, request: VideoRequest, key: str, tell: ProgressCallback
    ) -> StoredVideo:
        started = time.monotonic()
        tell(_BACKEND_FROM, "generating")

        def progress(fraction: float, phase: str) -> None:
            share = min(1.0, max(0.0, fraction))
            tell(_BACKEND_FROM + share * (_BACKEND_TO - _BACKEND_FROM), phase)

        made = await backend.generate(request, progress)
        tell(_BACKEND_TO, "checking")
        report = await asyncio.to_thread(
            gate.check, made.frames, request.scene.pixels, backend.starts_at_scene
        )
        tell(0.9, "encoding")
        mp4 = await asyncio.to_thread(encode_mp4, made.frames, made.fps)
        seconds = time.monotonic() - started
        video = _describe(backend, request, made, mp4, report, seconds)
        tell(0.97, "storing")
        await self._store.put(key, mp4, video)
        GENERATION_SECONDS.labels(backend.name).observe(seconds)
        _LOG.info(
            "video_made",
            video_id=video.video_id,
            backend=backend.name,
            prompt=request.prompt,
            seed=request.seed,
            seconds=round(seconds, 3),
            **report.model_dump(),
        )
        return video


def request_key(backend: VideoBackend, request: VideoRequest) -> str:
    """sha256 (hex) over everything that decides a video."""
    parts = [
        backend.name,
        backend.model,
        request.prompt,
        request.scene_sha256,
        request.seed,
        backend.fingerprint(request),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def noted(tell: ProgressCallback, note: str) -> ProgressCallback:
    """`tell` with a remark after every phase."""
    short = textwrap.shorten(note, _MAX_NOTE_CHARS, placeholder=" …")
    return lambda fraction, phase: tell(fraction, f"{phase} ({short})")


def _describe(
    backend: VideoBackend,
    request: VideoRequest,
    made: BackendVideo,
    mp4: bytes,
    report: gate.GateReport,
    seconds: float,
) -> StoredVideo:
    return StoredVideo(
        video_id=content_id(mp4),
        frames=len(made.frames),
        fps=made.fps,
        size=made.frames.shape[1],
        prompt=request.prompt,
        first_frame_sha256=request.scene_sha256,
        seed=request.seed,
        backend=backend.name,
        model=made.model,
        seconds=seconds,
        source_video_id=request.source_video_id,
        gate=report,
    )


@contextlib.asynccontextmanager
async def _time_limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the generation took longer than {seconds:g} s") from None
