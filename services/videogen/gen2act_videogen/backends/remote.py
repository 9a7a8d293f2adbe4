"""What backends that ask somebody else for a video have in common: a job is made, watched, fetched.

Another engine or service is a subclass with three methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from gen2act_contracts.errors import GenerationFailed, InvalidVideo
from gen2act_videogen.backend import (
    Availability,
    BackendVideo,
    ProgressCallback,
    ResultLost,
    VideoRequest,
)
from gen2act_videogen.backends.ingest import read_square_video
from gen2act_videogen.backends.remote_http import FAREWELL_S, Answer, RemoteHttp, Sleep

U8 = npt.NDArray[np.uint8]

MAX_JOB_BYTES = 1 << 20  # of an answer that describes a job
_VIDEO_TYPES = ("application/octet-stream", "binary/octet-stream")


@dataclass(frozen=True)
class Working:
    """A job that is not done yet."""

    fraction: float  # in [0, 1]
    phase: str


@dataclass(frozen=True)
class Fetched:
    """A video as it was sent, and who made it."""

    mp4: bytes
    model: str


class RemoteBackend(ABC):
    """`VideoBackend` over a service that works in jobs.

    Args:
        http: the service.
        model: what it is asked for.
        image_size: side of the frames that are handed on [px].
        deadline_s: bound of one job, from the request to the last byte [s].
        poll_s: pause between two looks at a job [s].
        sleep: awaited with those seconds; tests give another.
    """

    name: ClassVar[str]
    requires: ClassVar[str]
    uses_simulator_state = False
    starts_at_scene = True

    def __init__(
        self,
        http: RemoteHttp,
        *,
        model: str,
        image_size: int,
        deadline_s: float,
        poll_s: float,
        sleep: Sleep,
    ) -> None:
        self.model = model
        self._http = http
        self._image_size = image_size
        self._deadline_s = deadline_s
        self._poll_s = poll_s
        self._sleep = sleep

    async def start(self) -> None:  # noqa: B027 - there is nothing that a subclass must add
        """Nothing to get ready."""

    async def close(self) -> None:
        await self._http.aclose()

    def availability(self) -> Availability:
        """Configured is available; whether the service answers shows when it is asked."""
        return Availability(True)

    @abstractmethod
    def fingerprint(self, request: VideoRequest) -> str:
        """As `VideoBackend.fingerprint`."""

    async def generate(self, request: VideoRequest, progress: ProgressCallback) -> BackendVideo:
        try:
            async with asyncio.timeout(self._deadline_s):
                fetched = await self._fetch(request, progress)
        except TimeoutError:
            raise ResultLost(
                f"{self._http.label} did not finish within {self._deadline_s:g} s and was told to "
                "stop"
            ) from None
        progress(1.0, "decoding")
        try:
            frames, fps = await asyncio.to_thread(read_square_video, fetched.mp4, self._image_size)
        except InvalidVideo as error:
            raise self._failed(f"sent a video that cannot be read: {error}") from error
        self._check_length(len(frames), fps)
        return BackendVideo(frames=frames, fps=fps, model=fetched.model or self.model)

    async def _fetch(self, request: VideoRequest, progress: ProgressCallback) -> Fetched:
        job_id = await self._created(request)
        done = False
        try:
            while isinstance(state := await self._poll(job_id), Working):
                progress(state.fraction, state.phase)
                await self._sleep(self._poll_s)
            done = True
            return state
        finally:
            await self._release(job_id, done)

    async def _created(self, request: VideoRequest) -> str:
        creating = asyncio.ensure_future(self._create(request))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The request may have arrived. Its answer is waited for, briefly, so that the work
            # that nobody wants any more can be stopped.
            with contextlib.suppress(Exception):
                await self._release(await asyncio.wait_for(creating, FAREWELL_S), False)
            raise

    @abstractmethod
    async def _create(self, request: VideoRequest) -> str:
        """Asks for the video, once; the job's id."""

    @abstractmethod
    async def _poll(self, job_id: str) -> Working | Fetched:
        """How the job stands; its video once it is done."""

    @abstractmethod
    async def _release(self, job_id: str, done: bool) -> None:
        """The job is not needed any more, whether or not it is done. Bounded; does not raise."""

    @abstractmethod
    def _check_length(self, frames: int, fps: float) -> None:
        """Raises GenerationFailed for a video that ends before it should."""

    def _video(self, answer: Answer) -> bytes:
        """The bytes of an answer that should be a video."""
        kind = answer.content_type
        if not (kind.startswith("video/") or kind in _VIDEO_TYPES):
            raise self._failed(f"sent {kind[:80] or 'something without a type'} and not a video")
        return answer.body

    def _failed(self, what: str) -> GenerationFailed:
        """An error of the making; another seed may help."""
        return GenerationFailed(f"{self._http.label} {what}", backend=self.name)


def framed_png(pixels: U8, width: int, height: int) -> bytes:
    """A square picture as PNG, filling the height of a canvas, with black bars at its sides.

    Args:
        pixels: uint8 [S, S, 3] RGB.
        width, height: of the canvas [px], width >= height.
    """
    canvas = Image.new("RGB", (width, height))
    square = Image.fromarray(pixels).resize((height, height), Image.Resampling.LANCZOS)
    canvas.paste(square, ((width - height) // 2, 0))
    out = io.BytesIO()
    canvas.save(out, format="PNG")
    return out.getvalue()
