"""The way of one request: find, or admit, generate, check, encode, store. No gRPC, no Redis types.

Equal requests share one generation (a "flight"): whoever comes later listens to its progress, and
it is cancelled when the last listener has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gen2act_contracts.errors import (
    DeadlineExceeded,
    Draining,
    Gen2ActError,
    GenerationCancelled,
    GenerationFailed,
    InvalidInput,
    PeerUnavailable,
    Unavailable,
    UnknownBackend,
)
from gen2act_contracts.video import encode_mp4
from gen2act_servicekit import logs
from gen2act_videogen import gate
from gen2act_videogen.admission import Admission
from gen2act_videogen.backend import BackendVideo, ProgressCallback, VideoBackend, VideoRequest
from gen2act_videogen.metrics import GENERATION_SECONDS, GENERATIONS
from gen2act_videogen.store import StoredVideo, VideoStore, content_id

_LOG = logs.get(__name__)

FILE_BACKEND = "file"
# Shares of the progress bar: the backend's own part lies between these.
_BACKEND_FROM, _BACKEND_TO = 0.05, 0.85


@dataclass(eq=False)
class _Flight:
    """One generation and those who wait for it."""

    listeners: list[ProgressCallback] = field(default_factory=list)
    last: tuple[float, str] | None = None
    task: asyncio.Task[tuple[StoredVideo, bool]] | None = None

    def tell(self, fraction: float, phase: str) -> None:
        self.last = (fraction, phase)
        for listener in self.listeners:
            listener(fraction, phase)


class Generator:
    """Makes videos with the backends it was given.

    Args:
        backends: all that requests may name, by name.
        order: tried in turn when a request names none; the first is the default.
        store: where finished videos go.
        admission: bounds generations at work and in the queue.
        max_generation_s: a generation longer than this fails, whatever its callers' deadlines [s].
    """

    def __init__(
        self,
        backends: Sequence[VideoBackend],
        order: Sequence[str],
        store: VideoStore,
        admission: Admission,
        max_generation_s: float,
    ) -> None:
        self.backends: Mapping[str, VideoBackend] = {backend.name: backend for backend in backends}
        self.order = tuple(order)
        self._store = store
        self._admission = admission
        self._max_generation_s = max_generation_s
        self._flights: dict[str, _Flight] = {}

    async def generate(
        self, request: VideoRequest, backend: str, progress: ProgressCallback
    ) -> tuple[StoredVideo, bool]:
        """The stored video, and whether it was there before.

        Args:
            request: what is wanted.
            backend: a backend's name, or "" for the configured order (`file` if the request names
                a recording).
            progress: called from the event loop until the result is returned.

        Raises:
            Gen2ActError: as the backends, the gate, the store and the admission raise.
        """
        failures: list[tuple[str, Gen2ActError]] = []
        for candidate in self._candidates(request, backend):
            try:
                return await self._with_backend(candidate, request, progress)
            except GenerationCancelled:
                raise
            except (GenerationFailed, PeerUnavailable, _BackendNotReady) as error:
                failures.append((candidate.name, error))
                _LOG.info("backend_failed", backend=candidate.name, reason=str(error))
        raise _combined(failures)

    async def close(self) -> None:
        """Cancels what still runs; its callers get Draining."""
        tasks = [flight.task for flight in self._flights.values() if flight.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _candidates(self, request: VideoRequest, name: str) -> list[VideoBackend]:
        if not name and request.source_video_id:
            name = FILE_BACKEND
        names = (name,) if name else self.order
        unknown = [each for each in names if each not in self.backends]
        if unknown:
            raise UnknownBackend(
                f"unknown or disabled backend {unknown[0][:80]!r}; enabled: "
                f"{', '.join(sorted(self.backends))}"
            )
        if request.source_video_id and name != FILE_BACKEND:
            raise InvalidInput(
                f"source_video_id is for the backend {FILE_BACKEND!r} only, not for {name!r}"
            )
        return [self.backends[each] for each in names]

    async def _with_backend(
        self, backend: VideoBackend, request: VideoRequest, progress: ProgressCallback
    ) -> tuple[StoredVideo, bool]:
        if not backend.uses_simulator_state:
            request = replace(request, simulator_state=b"")
        key = request_key(backend, request)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._fly(flight, key, backend, request))
            flight.task.add_done_callback(_mark_seen)
        return await self._join(key, flight, progress)

    async def _join(
        self, key: str, flight: _Flight, progress: ProgressCallback
    ) -> tuple[StoredVideo, bool]:
        assert flight.task is not None
        if flight.last is not None:
            progress(*flight.last)
        flight.listeners.append(progress)
        try:
            # Shielded: one caller's cancellation is not the others'.
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.task.cancelled() and not _being_cancelled():
                raise Draining("the service is stopping") from None
            raise
        finally:
            flight.listeners.remove(progress)
            if not flight.listeners:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.task.cancel()

    async def _fly(
        self, flight: _Flight, key: str, backend: VideoBackend, request: VideoRequest
    ) -> tuple[StoredVideo, bool]:
        outcome = "failed"
        try:
            found = await self._store.find(key)
            if found is not None:
                outcome = "cached"
                return found, True
            video = await self._make(flight, key, backend, request)
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

    async def _make(
        self, flight: _Flight, key: str, backend: VideoBackend, request: VideoRequest
    ) -> StoredVideo:
        availability = backend.availability()
        if not availability.available:
            raise _BackendNotReady(
                f"backend {backend.name!r} is not available: {availability.reason}",
                backend=backend.name,
            )
        flight.tell(0.0, "queued")
        async with self._admission.enter(), _time_limit(self._max_generation_s):
            started = time.monotonic()
            flight.tell(_BACKEND_FROM, "generating")

            def progress(fraction: float, phase: str) -> None:
                share = min(1.0, max(0.0, fraction))
                flight.tell(_BACKEND_FROM + share * (_BACKEND_TO - _BACKEND_FROM), phase)

            made = await backend.generate(request, progress)
            flight.tell(_BACKEND_TO, "checking")
            report = await asyncio.to_thread(
                gate.check, made.frames, request.scene.pixels, backend.starts_at_scene
            )
            flight.tell(0.9, "encoding")
            mp4 = await asyncio.to_thread(encode_mp4, made.frames, made.fps)
            seconds = time.monotonic() - started
            video = _describe(backend, request, made, mp4, report, seconds)
            flight.tell(0.97, "storing")
            await self._store.put(key, mp4, video)
        GENERATION_SECONDS.labels(backend.name).observe(seconds)
        _LOG.info(
            "video_made",
            video_id=video.video_id,
            backend=backend.name,
            prompt=request.prompt,
            seconds=round(seconds, 3),
            **report.model_dump(),
        )
        return video


class _BackendNotReady(Unavailable):
    """This backend cannot work now; another of the order may."""


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


def _combined(failures: Sequence[tuple[str, Gen2ActError]]) -> Gen2ActError:
    """One error for all backends that were tried; the only one as it is."""
    if len(failures) == 1:
        return failures[0][1]
    reasons = "; ".join(f"{name}: {error}" for name, error in failures)
    message = f"no backend could make the video ({reasons})"
    tried = ",".join(name for name, _ in failures)
    kinds = {type(error) for _, error in failures}
    # Worth a retry if any of them is; a type that all share says more than the general one.
    if any(error.retryable for _, error in failures):
        return Unavailable(message, backends=tried)
    kind = kinds.pop() if len(kinds) == 1 else GenerationFailed
    return kind(message, backends=tried)


def _mark_seen(task: asyncio.Task[tuple[StoredVideo, bool]]) -> None:
    """The last listener may have left before the failure; asyncio would complain of it."""
    if not task.cancelled():
        task.exception()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextlib.asynccontextmanager
async def _time_limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the generation took longer than {seconds:g} s") from None
