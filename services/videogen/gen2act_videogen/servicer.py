"""The gRPC edge: converts, calls the generator, converts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from gen2act_contracts import frames, pb
from gen2act_contracts.errors import InvalidInput
from gen2act_servicekit import logs
from gen2act_videogen.backend import VideoRequest
from gen2act_videogen.backends import BACKENDS
from gen2act_videogen.generation import Generator
from gen2act_videogen.prompt import video_prompt
from gen2act_videogen.store import StoredVideo

MAX_NAME_CHARS = 128  # backend names, video ids, request ids


class VideoGenerationServicer(pb.videogen_grpc.VideoGenerationServicer):
    """`gen2act.v1.VideoGeneration`. Errors go up typed; the server's interceptor maps them.

    Args:
        generator: makes the videos.
        refuse_while_draining: raises Draining when nothing long may begin any more.
    """

    def __init__(
        self, generator: Generator, refuse_while_draining: Callable[[], None] = lambda: None
    ) -> None:
        self._generator = generator
        self._refuse_while_draining = refuse_while_draining

    async def Generate(
        self, request: pb.videogen.GenerateRequest, context: Any
    ) -> AsyncIterator[pb.videogen.GenerateEvent]:
        """Progress, then exactly one result. Leaving the call cancels what only it waits for."""
        self._refuse_while_draining()
        wanted = await _to_request(request)
        latest: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue(maxsize=1)

        def progress(fraction: float, phase: str) -> None:
            _replace(latest, (fraction, phase))

        with logs.bound(request_id=request.request_id[:MAX_NAME_CHARS]):
            work = asyncio.create_task(self._generator.generate(wanted, request.backend, progress))
        work.add_done_callback(lambda _: _replace(latest, None))
        try:
            while (step := await latest.get()) is not None:
                yield pb.videogen.GenerateEvent(
                    progress=pb.videogen.GenerateProgress(fraction=step[0], phase=step[1])
                )
            video, cached = await work
            yield pb.videogen.GenerateEvent(result=_to_result(video, cached))
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work

    async def ListBackends(
        self, request: pb.videogen.ListBackendsRequest, context: Any
    ) -> pb.videogen.ListBackendsResponse:
        """Every backend this service knows, enabled or not, and what it needs."""
        enabled = self._generator.backends
        listed = []
        for name in (*enabled, *(each for each in BACKENDS if each not in enabled)):
            if name not in enabled:
                listed.append(
                    pb.videogen.BackendInfo(
                        name=name,
                        available=False,
                        requires=f"{BACKENDS[name].requires}; "
                        "not enabled in GEN2ACT_VIDEO_BACKENDS",
                    )
                )
                continue
            state = enabled[name].availability()
            reason = "" if state.available else f" (now unavailable: {state.reason})"
            listed.append(
                pb.videogen.BackendInfo(
                    name=name,
                    available=state.available,
                    requires=enabled[name].requires + reason,
                    is_default=name == self._generator.order[0],
                )
            )
        return pb.videogen.ListBackendsResponse(backends=listed)


def _replace(
    queue: asyncio.Queue[tuple[float, str] | None], item: tuple[float, str] | None
) -> None:
    """Only the newest progress matters to a slow reader; the end (None) always arrives."""
    with contextlib.suppress(asyncio.QueueEmpty):
        queue.get_nowait()
    queue.put_nowait(item)


async def _to_request(request: pb.videogen.GenerateRequest) -> VideoRequest:
    prompt = video_prompt(request.task)
    for field in ("backend", "source_video_id"):
        if len(getattr(request, field)) > MAX_NAME_CHARS:
            raise InvalidInput(f"{field} is longer than {MAX_NAME_CHARS} characters")
    image = request.scene.image
    scene = await asyncio.to_thread(frames.decode, image)
    return VideoRequest(
        task=request.task,
        prompt=prompt,
        scene=scene,
        scene_sha256=hashlib.sha256(image.data).hexdigest(),
        seed=request.seed,
        simulator_state=request.scene.simulator_state,
        source_video_id=request.source_video_id,
    )


def _to_result(video: StoredVideo, cached: bool) -> pb.videogen.GeneratedVideo:
    return pb.videogen.GeneratedVideo(
        video_id=video.video_id,
        frames=video.frames,
        fps=video.fps,
        size=video.size,
        provenance=pb.videogen.Provenance(
            prompt=video.prompt,
            first_frame_sha256=video.first_frame_sha256,
            seed=video.seed,
            backend=video.backend,
            model=video.model,
            seconds=video.seconds,
        ),
        cached=cached,
    )
