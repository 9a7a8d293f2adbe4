"""`gemini-omni`: Google's hosted video model, over its Interactions API.

    POST {base}/interactions               with background: true, or the call would block
    GET  {base}/interactions/{id}          in_progress, completed, failed, …
    GET  {uri}?alt=media                   the MP4, or inline in the answer whatever was asked for
    POST {base}/interactions/{id}/cancel

It makes 16:9 only: the square scene gets black bars, and the middle of the video is cut out again.
A refusal is a completed interaction with words and without a video. Every request is charged; it
takes 30 to 60 s, which is beyond the paper's budget of 10 s a video.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError

from gen2act_contracts.errors import UnsupportedInstruction
from gen2act_videogen.backend import ResultLost, VideoRequest
from gen2act_videogen.backends.ingest import MAX_BYTES
from gen2act_videogen.backends.remote import Fetched, RemoteBackend, Working, framed_png
from gen2act_videogen.backends.remote_http import RemoteHttp, Sleep, error_text

# Where Google's API sends readers on to; without the key.
MEDIA_HOSTS = (".googleapis.com", ".googleusercontent.com")
POLL_S = 2.0
_MAX_ANSWER_BYTES = 2 * MAX_BYTES  # the video may come inside, as base64
_HEIGHT_PX = {"360p": 360, "720p": 720}
_LEAST_SHARE = 0.8  # of the duration asked for
_HINT = "The image is the first frame; the black bars at its sides stay black."


class _Content(BaseModel):
    type: str = ""
    text: str | None = None
    uri: str | None = None
    data: str | None = None


class _Step(BaseModel):
    type: str = ""
    content: list[_Content] | None = None


class _Interaction(BaseModel):
    """What the service says of an interaction; more fields are ignored."""

    id: str = Field(default="", max_length=512)
    status: str = Field(max_length=64)
    steps: list[_Step] | None = None
    error: Any = None

    @property
    def made(self) -> list[_Content]:
        """The model's own contents."""
        steps = [step for step in self.steps or () if step.type == "model_output"]
        return [content for step in steps for content in step.content or ()]


class GeminiOmniBackend(RemoteBackend):
    """`VideoBackend` over the Interactions API. It has no seed: a further attempt is a new roll.

    Args:
        api_key: sent to the origin of `base_url` only.
        model: of the API.
        base_url: with its version, e.g. ".../v1beta".
        resolution: "360p" or "720p".
        duration_s: of the video, 3 to 10 [s].
        image_size: side of the frames that are handed on [px].
        deadline_s: bound of one video [s].
        sleep: awaited with the seconds of every pause; tests give another.
        media_hosts: hosts that videos may be read from without the key.
    """

    name = "gemini-omni"
    requires = "GEN2ACT_GEMINI_API_KEY: a paid Gemini API key; 30 to 60 s a video"

    def __init__(
        self,
        api_key: SecretStr,
        *,
        model: str = "gemini-omni-1.1-flash",
        base_url: str = "https://generativelanguage.googleapis.com/v1beta",
        resolution: str = "360p",
        duration_s: int = 3,
        image_size: int = 224,
        deadline_s: float = 108.0,
        sleep: Sleep = asyncio.sleep,
        media_hosts: Collection[str] = MEDIA_HOSTS,
    ) -> None:
        http = RemoteHttp(
            "Gemini",
            base_url,
            settings="GEN2ACT_GEMINI",
            key_header="x-goog-api-key",
            key=api_key,
            media_hosts=media_hosts,
            sleep=sleep,
        )
        super().__init__(
            http,
            model=model,
            image_size=image_size,
            deadline_s=deadline_s,
            poll_s=POLL_S,
            sleep=sleep,
        )
        self._resolution = resolution
        self._duration_s = duration_s

    def fingerprint(self, request: VideoRequest) -> str:
        return f"{self._resolution}/{self._duration_s}s/{self._image_size}"

    async def _create(self, request: VideoRequest) -> str:
        height = _HEIGHT_PX[self._resolution]
        png = await asyncio.to_thread(framed_png, request.scene.pixels, height * 16 // 9, height)
        answer = await self._http.post(
            "interactions",
            limit=_MAX_ANSWER_BYTES,
            json={
                "model": self.model,
                "background": True,
                "input": [
                    {
                        "type": "image",
                        "data": base64.b64encode(png).decode(),
                        "mime_type": "image/png",
                    },
                    {"type": "text", "text": f"{request.prompt}. {_HINT}"},
                ],
                "response_format": {
                    "type": "video",
                    "delivery": "uri",
                    "aspect_ratio": "16:9",
                    "resolution": self._resolution,
                    "duration": f"{self._duration_s}s",
                },
            },
        )
        interaction = _read(answer.body)
        if not interaction.id:
            raise ResultLost("Gemini's answer names no interaction")
        return interaction.id

    async def _poll(self, job_id: str) -> Working | Fetched:
        answer = await self._http.get(_path(job_id), limit=_MAX_ANSWER_BYTES)
        interaction = _read(answer.body)
        if interaction.status in ("failed", "cancelled", "incomplete"):
            text = self._http.quotable(error_text(answer.body))
            if self._http.is_refusal(text):
                raise UnsupportedInstruction(f"Gemini refuses to show this: {text}")
            raise self._failed(
                f"says that the interaction {interaction.status}{f': {text}' if text else ''}"
            )
        if interaction.status != "completed":
            # It does not say how far it is.
            return Working(0.0, "waiting for Gemini")
        videos = [each for each in interaction.made if each.type == "video"]
        if not videos:
            words = " ".join(each.text for each in interaction.made if each.text)
            raise UnsupportedInstruction(
                f"Gemini made no video: {self._http.quotable(words) or 'it does not say why'}"
            )
        return Fetched(await self._content(videos[-1]), self.model)

    async def _content(self, video: _Content) -> bytes:
        if video.data:
            try:
                return base64.b64decode(video.data, validate=True)
            except binascii.Error as error:
                raise self._failed("sent a video that is no base64") from error
        if not video.uri:
            raise ResultLost("Gemini's video has neither an address nor data")
        try:
            url = httpx.URL(video.uri).copy_merge_params({"alt": "media"})
        except (httpx.InvalidURL, ValueError) as error:
            raise ResultLost("Gemini refers to an address that is none") from error
        # The file may lag a moment behind the interaction.
        return self._video(await self._http.get(str(url), limit=MAX_BYTES, again=(404,)))

    async def _release(self, job_id: str, done: bool) -> None:
        if not done:
            await self._http.farewell("POST", f"{_path(job_id)}/cancel")

    def _check_length(self, frames: int, fps: float) -> None:
        seconds = (frames - 1) / fps
        if seconds < _LEAST_SHARE * self._duration_s:
            raise self._failed(f"sent {seconds:.1f} s where {self._duration_s} s were asked for")


def _path(job_id: str) -> str:
    return f"interactions/{quote(job_id, safe='')}"  # an id must not lead elsewhere


def _read(body: bytes) -> _Interaction:
    try:
        return _Interaction.model_validate_json(body)
    except ValidationError as error:
        raise ResultLost("Gemini's answer does not describe an interaction") from error
