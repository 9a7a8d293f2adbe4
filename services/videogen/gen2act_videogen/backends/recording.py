"""`file`: a person's own recorded video, uploaded beforehand (the Vid2Robot use, baseline in §4.2).

The recording is turned upright, cropped to its central square, scaled and thinned out. Its first
frame need not be this scene: a video of another drawer is a legitimate way to say "open it", so
the gate reports the resemblance and does not refuse.
"""

from __future__ import annotations

import asyncio

from gen2act_contracts.errors import BackendRequires
from gen2act_videogen.backend import (
    Availability,
    BackendVideo,
    ProgressCallback,
    VideoRequest,
)
from gen2act_videogen.backends.ingest import MAX_KEPT_FRAMES, read_square_video
from gen2act_videogen.store import VideoStore


class RecordingBackend:
    """`VideoBackend` over uploaded recordings.

    Args:
        store: where the upload lies.
        image_size: side of the frames [px].
    """

    name = "file"
    model = "recording"
    requires = "source_video_id: the id of an uploaded video of a person doing the task"
    uses_simulator_state = False
    starts_at_scene = False

    def __init__(self, store: VideoStore, *, image_size: int = 224) -> None:
        self._store = store
        self._image_size = image_size

    async def start(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Nothing to free."""

    def availability(self) -> Availability:
        return Availability(True)

    def fingerprint(self, request: VideoRequest) -> str:
        if not request.source_video_id:
            raise BackendRequires(f"backend 'file' requires {self.requires}", backend=self.name)
        return f"{request.source_video_id}/{MAX_KEPT_FRAMES}x{self._image_size}"

    async def generate(self, request: VideoRequest, progress: ProgressCallback) -> BackendVideo:
        self.fingerprint(request)
        progress(0.0, "reading")
        data = await self._store.recording(request.source_video_id)
        progress(0.1, "decoding")
        frames, fps = await asyncio.to_thread(read_square_video, data, self._image_size)
        progress(1.0, "decoding")
        return BackendVideo(frames=frames, fps=fps, model=self.model)
