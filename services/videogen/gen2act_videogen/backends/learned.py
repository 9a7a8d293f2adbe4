"""`learned`: a small model of our own imagines the person from the picture and the words alone.

It needs no key, no accelerator and no simulator state; it knows the tasks of its bundle and says so
when it is asked for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import numpy as np

from gen2act_contracts.errors import Gen2ActError, GenerationCancelled
from gen2act_contracts.frames import Frame, resize
from gen2act_videogen.backend import (
    Availability,
    BackendVideo,
    ProgressCallback,
    VideoRequest,
)
from gen2act_videogen.imagination import Imagination, Progress


class LearnedBackend:
    """`VideoBackend` over a bundle of the learned model.

    Args:
        bundle: folder of the bundle.
        frames: frames of a video.
        image_size: side of the frames [px].
        threads: of ONNX Runtime; 0: as it likes.
    """

    name = "learned"
    requires = "a bundle of the learned video model, and onnxruntime"
    uses_simulator_state = False
    starts_at_scene = True

    def __init__(
        self, bundle: Path, *, frames: int = 16, image_size: int = 224, threads: int = 0
    ) -> None:
        self._bundle = bundle
        self._frames = frames
        self._image_size = image_size
        self._threads = threads
        self._model: Imagination | None = None
        self._problem = "not started"
        self._loading: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def model(self) -> str:
        return "not loaded" if self._model is None else self._model.version

    async def start(self) -> None:
        self._problem = "loading"
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            self._model = await asyncio.to_thread(Imagination, self._bundle, self._threads)
        except Gen2ActError as error:
            self._problem = str(error)

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        self._model = None
        self._problem = "closed"

    def availability(self) -> Availability:
        if self._model is None:
            return Availability(False, self._problem)
        return Availability(True)

    def fingerprint(self, request: VideoRequest) -> str:
        return f"{self._frames}x{self._image_size}"

    async def generate(self, request: VideoRequest, progress: ProgressCallback) -> BackendVideo:
        model = self._model
        if model is None:
            raise RuntimeError(f"generate() of a backend that is not available: {self._problem}")
        loop = asyncio.get_running_loop()
        stop = threading.Event()

        def told(step: Progress) -> None:
            if stop.is_set():
                raise GenerationCancelled("the video is no longer wanted")
            share = (step.done + 1) / (step.of + 1)
            loop.call_soon_threadsafe(progress, share, "painting")

        async with self._turn:
            work = asyncio.create_task(
                asyncio.to_thread(
                    model.imagine,
                    request.task,
                    request.scene.pixels,
                    request.seed,
                    self._frames,
                    told,
                )
            )
            try:
                frames = await asyncio.shield(work)
            except asyncio.CancelledError:
                # A thread cannot be stopped from outside; it ends at its next frame.
                stop.set()
                with contextlib.suppress(Exception):
                    await work
                raise
        if frames.shape[1] != self._image_size:
            frames = np.stack([resize(Frame(each), self._image_size).pixels for each in frames])
        return BackendVideo(frames=frames, fps=model.fps, model=model.version)
