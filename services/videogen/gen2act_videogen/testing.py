"""Doubles for tests of this service and for those who write a backend of their own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gen2act_contracts.errors import Gen2ActError, VideoExpired
from gen2act_contracts.frames import Frame
from gen2act_videogen.backend import (
    Availability,
    BackendVideo,
    ProgressCallback,
    VideoRequest,
)
from gen2act_videogen.store import StoredVideo, content_id

U8 = npt.NDArray[np.uint8]


def scene_picture(layout: int = 0, size: int = 64) -> U8:
    """A made-up scene uint8 [S, S, 3]; another `layout` is another scene."""
    blocks = np.random.default_rng(layout).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, size // 8, axis=0), size // 8, axis=1)


def moving_video(picture: U8, frames: int = 16) -> U8:
    """A patch wandering over a scene, uint8 [N, S, S, 3]; the first frame is the scene."""
    video = np.repeat(picture[None], frames, axis=0)
    side = picture.shape[0] // 4
    for index in range(1, frames):
        left = (picture.shape[0] - side) * index // frames
        video[index, side : 2 * side, left : left + side] = (255, 255, 255) - picture[0, 0]
    return video


def a_request(
    *, layout: int = 0, seed: int = 0, state: bytes = b"", source_video_id: str = ""
) -> VideoRequest:
    """A request for a video in `scene_picture(layout)`."""
    return VideoRequest(
        task="open the drawer",
        prompt="A person opening the drawer, static camera",
        scene=Frame(scene_picture(layout)),
        scene_sha256=f"{layout:064x}",
        seed=seed,
        simulator_state=state,
        source_video_id=source_video_id,
    )


@dataclass
class ScriptedBackend:
    """A backend that does what a test says; by default a good video, at once.

    Set `held` and call `release.set()` to let it finish later; the first calls raise `failures`.
    """

    name: str = "scripted"
    model: str = "scripted/1"
    requires: str = "nothing"
    uses_simulator_state: bool = False
    starts_at_scene: bool = True
    held: bool = False
    failures: list[Gen2ActError] = field(default_factory=list)
    defect: Exception | None = None
    frames: U8 | None = None
    unavailable: str = ""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[VideoRequest] = field(default_factory=list)
    cancelled: int = 0

    async def start(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Nothing to free."""

    def availability(self) -> Availability:
        return Availability(not self.unavailable, self.unavailable)

    def fingerprint(self, request: VideoRequest) -> str:
        return ""

    async def generate(self, request: VideoRequest, progress: ProgressCallback) -> BackendVideo:
        self.requests.append(request)
        self.began.set()
        progress(0.5, "scripting")
        try:
            if self.held:
                await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if len(self.requests) <= len(self.failures):
            raise self.failures[len(self.requests) - 1]
        if self.defect is not None:
            raise self.defect
        frames = moving_video(request.scene.pixels) if self.frames is None else self.frames
        return BackendVideo(frames=frames, fps=8.0, model=self.model)


@dataclass
class MemoryVideoStore:
    """`VideoStore` without Redis. `failure` makes every call fail."""

    videos: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, StoredVideo] = field(default_factory=dict)
    failure: Gen2ActError | None = None

    async def find(self, request_key: str) -> StoredVideo | None:
        self._check()
        video = self.answers.get(request_key)
        return video if video is not None and video.video_id in self.videos else None

    async def put(self, request_key: str, mp4: bytes, video: StoredVideo) -> None:
        self._check()
        assert content_id(mp4) == video.video_id
        self.videos[video.video_id] = mp4
        self.answers[request_key] = video

    async def recording(self, video_id: str) -> bytes:
        self._check()
        if video_id not in self.videos:
            raise VideoExpired(f"the uploaded video {video_id!r} is not stored")
        return self.videos[video_id]

    async def ping(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
