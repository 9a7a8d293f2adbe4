"""Who makes a video: equal requests share one generation, and one backend after the other is tried.

A generation in progress is a "flight": whoever asks for the same later listens to its progress, and
it is cancelled when the last listener has left. No gRPC, no Redis types.

The next backend of the order is tried when one is not ready, cannot be reached, is over its quota,
takes too long, lacks something, refuses the instruction, or makes no video that passes the gate.
A refusal falls through as well: what one model does not know or may not show another may, and its
video has to pass the same gate. Bad input, a lost store and a cancelled call end the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gen2act_contracts.errors import (
    BackendRequires,
    DeadlineExceeded,
    Draining,
    Gen2ActError,
    GenerationCancelled,
    GenerationFailed,
    InvalidInput,
    PeerUnavailable,
    Unavailable,
    UnknownBackend,
    UnsupportedInstruction,
)
from gen2act_servicekit import logs
from gen2act_videogen.backend import ProgressCallback, QuotaExceeded, VideoBackend, VideoRequest
from gen2act_videogen.making import BackendNotReady, Maker, noted, request_key
from gen2act_videogen.store import StoredVideo

_LOG = logs.get(__name__)

FILE_BACKEND = "file"
_FALLS_THROUGH = (
    GenerationFailed,
    PeerUnavailable,
    QuotaExceeded,
    DeadlineExceeded,
    BackendNotReady,
)


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
        maker: makes one video with one backend.
    """

    def __init__(
        self, backends: Sequence[VideoBackend], order: Sequence[str], maker: Maker
    ) -> None:
        self.backends: Mapping[str, VideoBackend] = {backend.name: backend for backend in backends}
        self.order = tuple(order)
        self._maker = maker
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
            listener = progress
            if failures:
                failed, why = failures[-1]
                listener = noted(progress, f"with {candidate.name}; {failed}: {why}")
            try:
                return await self._with_backend(candidate, request, listener)
            except GenerationCancelled:
                raise
            except _FALLS_THROUGH as error:
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
            flight.task = asyncio.create_task(self._maker.make(backend, request, key, flight.tell))
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


def _combined(failures: Sequence[tuple[str, Gen2ActError]]) -> Gen2ActError:
    """One error for all backends that were tried; the only one as it is."""
    if len(failures) == 1:
        return failures[0][1]
    reasons = "; ".join(f"{name}: {error}" for name, error in failures)
    message = f"no backend could make the video ({reasons})"
    tried = ",".join(name for name, _ in failures)
    # Worth a retry if one was only away and none has worked, perhaps for money, in vain.
    idle = (Unavailable, BackendRequires, UnsupportedInstruction)
    errors = [error for _, error in failures]
    if any(error.retryable for error in errors) and all(isinstance(e, idle) for e in errors):
        return Unavailable(message, backends=tried)
    # A type that all share says more than the general one.
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else GenerationFailed
    return kind(message, backends=tried)


def _mark_seen(task: asyncio.Task[tuple[StoredVideo, bool]]) -> None:
    """The last listener may have left before the failure; asyncio would complain of it."""
    if not task.cancelled():
        task.exception()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
