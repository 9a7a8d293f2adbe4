"""`openai-videos`: a video engine behind `/v1/videos`, as vLLM-Omni, SGLang and FastVideo serve it.

    POST   {base}/videos                multipart: prompt, input_reference, size, num_frames, …
    GET    {base}/videos/{id}           queued, in_progress, completed or failed, with progress
    GET    {base}/videos/{id}/content   the MP4
    DELETE {base}/videos/{id}           stops the job and frees what it holds
    POST   {base}/videos/sync           the same fields, answered with the MP4 (vLLM-Omni)

Size and number of frames are always sent: engines have other defaults, one of them a single frame.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, SecretStr, ValidationError

from gen2act_contracts.errors import UnsupportedInstruction
from gen2act_videogen.backend import ProgressCallback, ResultLost, VideoRequest
from gen2act_videogen.backends.ingest import MAX_BYTES, MAX_KEPT_FRAMES
from gen2act_videogen.backends.remote import (
    MAX_JOB_BYTES,
    Fetched,
    RemoteBackend,
    Working,
    framed_png,
)
from gen2act_videogen.backends.remote_http import RemoteHttp, Sleep, error_text

# Form fields that are this backend's own; further ones come from the settings.
OWN_FIELDS = frozenset(
    {"prompt", "input_reference", "model", "size", "width", "height", "num_frames", "fps", "seed"}
)
POLL_S = 0.5
_LEAST_SHARE = 0.9  # of the frames asked for; engines round to what their models make
_MAX_SEED = 2**31  # engines read it as a signed 32-bit number or larger


class _Job(BaseModel):
    """What an engine says of a job; more fields are ignored."""

    id: str = Field(min_length=1, max_length=256)
    status: str = Field(max_length=64)
    progress: float | None = None  # percent
    model: str | None = Field(default=None, max_length=256)
    error: Any = None


class OpenAIVideosBackend(RemoteBackend):
    """`VideoBackend` over an engine's `/v1/videos`.

    Args:
        base_url: e.g. "http://localhost:8091/v1".
        api_key: sent as a bearer token to that origin only.
        model: empty: whichever the engine serves.
        mode: "sync" asks for the MP4 in one call, without progress.
        size: side of the square that is asked for [px].
        frames: number of frames asked for.
        fps: their rate.
        options: further form fields; objects and lists are sent as JSON.
        image_size: side of the frames that are handed on [px].
        deadline_s: bound of one video [s].
        sleep: awaited with the seconds of every pause; tests give another.
    """

    name = "openai-videos"
    requires = (
        "GEN2ACT_ENGINE_BASE_URL: an engine with /v1/videos (vLLM-Omni, SGLang-Diffusion, "
        "FastVideo) on a GPU"
    )

    def __init__(
        self,
        base_url: str,
        *,
        api_key: SecretStr | None = None,
        model: str = "",
        mode: Literal["async", "sync"] = "async",
        size: int = 640,
        frames: int = 49,
        fps: int = 16,
        options: Mapping[str, Any] | None = None,
        image_size: int = 224,
        deadline_s: float = 108.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        http = RemoteHttp(
            "the engine",
            base_url,
            settings="GEN2ACT_ENGINE",
            key_header="Authorization",
            key=api_key or SecretStr(""),
            key_prefix="Bearer ",
            sleep=sleep,
        )
        super().__init__(
            http,
            model=model or "unnamed",
            image_size=image_size,
            deadline_s=deadline_s,
            poll_s=POLL_S,
            sleep=sleep,
        )
        self._mode = mode
        self._frames = frames
        self._size = size
        self._fields = {
            **{name: _field(value) for name, value in (options or {}).items()},
            **({"model": model} if model else {}),
            "size": f"{size}x{size}",
            "num_frames": str(frames),
            "fps": str(fps),
        }

    def fingerprint(self, request: VideoRequest) -> str:
        return json.dumps([self._fields, self._image_size], sort_keys=True)

    async def _fetch(self, request: VideoRequest, progress: ProgressCallback) -> Fetched:
        if self._mode == "async":
            return await super()._fetch(request, progress)
        progress(0.0, "waiting for the engine")
        form = await self._form(request)
        answer = await self._http.post(
            "videos/sync", limit=MAX_BYTES, read_s=self._deadline_s, **form
        )
        return Fetched(self._video(answer), self.model)

    async def _create(self, request: VideoRequest) -> str:
        form = await self._form(request)
        answer = await self._http.post("videos", limit=MAX_JOB_BYTES, **form)
        return self._job(answer.body).id

    async def _poll(self, job_id: str) -> Working | Fetched:
        path = _path(job_id)
        job = self._job((await self._http.get(path, limit=MAX_JOB_BYTES)).body)
        if job.status in ("failed", "cancelled", "canceled"):
            text = self._http.quotable(error_text(json.dumps({"error": job.error}).encode()))
            if self._http.is_refusal(text):
                raise UnsupportedInstruction(f"the engine refuses to show this: {text}")
            raise self._failed(f"says that the job {job.status}{f': {text}' if text else ''}")
        if job.status != "completed":
            phase = "queued by the engine" if job.status == "queued" else "generating"
            return Working((job.progress or 0.0) / 100, phase)
        # The content may lag a moment behind the status.
        answer = await self._http.get(f"{path}/content", limit=MAX_BYTES, again=(404,))
        return Fetched(self._video(answer), job.model or self.model)

    async def _release(self, job_id: str, done: bool) -> None:
        # Also when it is done: nobody else fetches the video, and engines keep them.
        await self._http.farewell("DELETE", _path(job_id))

    def _check_length(self, frames: int, fps: float) -> None:
        least = _LEAST_SHARE * min(self._frames, MAX_KEPT_FRAMES)
        if frames < least:
            raise self._failed(f"sent {frames} frames where {self._frames} were asked for")

    def _job(self, body: bytes) -> _Job:
        try:
            return _Job.model_validate_json(body)
        except ValidationError as error:
            raise ResultLost("the engine's answer does not describe a job") from error

    async def _form(self, request: VideoRequest) -> dict[str, Any]:
        """Form fields and file as httpx takes them."""
        png = await asyncio.to_thread(framed_png, request.scene.pixels, self._size, self._size)
        own = {"prompt": request.prompt, "seed": str(request.seed % _MAX_SEED)}
        return {
            "data": {**self._fields, **own},
            "files": {"input_reference": ("scene.png", png, "image/png")},
        }


def _path(job_id: str) -> str:
    return f"videos/{quote(job_id, safe='')}"  # an id must not lead elsewhere


def _field(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
