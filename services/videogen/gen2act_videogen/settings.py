"""Settings of the service, read from GEN2ACT_* in `main` only."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from gen2act_contracts.keys import VIDEO_TTL_S
from gen2act_servicekit import ServiceSettings
from gen2act_videogen.backends import BACKENDS
from gen2act_videogen.backends.gemini_omni import GeminiOmniBackend
from gen2act_videogen.backends.openai_videos import OWN_FIELDS, OpenAIVideosBackend
from gen2act_videogen.backends.remote_http import base_url, is_loopback


class VideogenSettings(ServiceSettings):
    """What can be configured; each field is GEN2ACT_<FIELD>."""

    port: int = Field(default=50051, ge=0, le=65535)
    metrics_port: int = Field(default=9101, ge=0, le=65535)
    video_backends: str = Field(
        default="learned",
        description="comma-separated, tried in this order when a request names no backend",
    )
    video_ttl_s: int = Field(default=VIDEO_TTL_S, ge=60, description="life of a stored video [s]")
    video_size: int = Field(
        default=224, ge=64, le=640, multiple_of=2, description="side of the videos [px]"
    )
    video_frames: int = Field(
        default=16, ge=16, le=128, description="frames of a video that is made here"
    )
    video_bundle: Path = Field(
        default=Path("models/imagination"), description="`learned`: folder of the model bundle"
    )
    video_attempts: int = Field(
        default=3, ge=1, le=10, description="seeds tried with one backend before it has failed"
    )
    max_concurrent: int = Field(default=1, ge=1, le=64, description="generations at a time")
    max_waiting: int = Field(default=16, ge=0, le=1024, description="generations in the queue")
    max_generation_s: float = Field(default=120.0, gt=0, description="bound of one attempt [s]")

    # `openai-videos`; declared after the backends, which decide whether it is needed.
    engine_base_url: str = Field(
        default="",
        validate_default=True,
        description="engine that serves /videos below it, e.g. http://localhost:8091/v1",
    )
    engine_api_key: SecretStr = SecretStr("")
    engine_model: str = Field(default="", description="empty: the model that the engine serves")
    engine_mode: Literal["async", "sync"] = "async"
    engine_size: int = Field(
        default=640, ge=64, le=2048, multiple_of=2, description="side of the square asked for [px]"
    )
    engine_frames: int = Field(default=49, ge=16, le=512, description="frames asked for")
    engine_fps: int = Field(default=16, ge=1, le=60)
    engine_options: str = Field(
        default="", description='JSON object of further form fields: {"num_inference_steps": 4}'
    )

    # `gemini-omni`
    gemini_api_key: SecretStr = Field(default=SecretStr(""), validate_default=True)
    gemini_model: str = "gemini-omni-1.1-flash"
    gemini_base_url: str = "https://generativelanguage.googleapis.com/v1beta"
    gemini_resolution: Literal["360p", "720p"] = "360p"
    gemini_duration_s: int = Field(default=3, ge=3, le=10, description="of the video [s]")

    @field_validator("video_backends")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names:
            raise ValueError(f"name at least one of: {', '.join(BACKENDS)}")
        for name in names:
            if name not in BACKENDS:
                near = difflib.get_close_matches(name, BACKENDS, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"unknown backend {name!r}, known: {', '.join(BACKENDS)}{hint}")
        return ",".join(dict.fromkeys(names))

    @field_validator("engine_base_url")
    @classmethod
    def _engine_is_named(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            _refuse_if_enabled(OpenAIVideosBackend.name, info)
        return base_url(value)

    @field_validator("engine_options")
    @classmethod
    def _options_are_an_object(cls, value: str) -> str:
        try:
            options = json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f"no JSON: {error}") from error
        if not isinstance(options, dict):
            raise ValueError("must be a JSON object")
        own = sorted(OWN_FIELDS & set(options))
        if own:
            raise ValueError(
                f"{', '.join(own)} cannot be given here; they have settings or are"
                " the request's own"
            )
        return value

    @field_validator("gemini_api_key")
    @classmethod
    def _gemini_has_a_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if not value.get_secret_value():
            _refuse_if_enabled(GeminiOmniBackend.name, info)
        return value

    @field_validator("gemini_base_url")
    @classmethod
    def _gemini_is_encrypted(cls, value: str) -> str:
        if not value.startswith("https://") and not is_loopback(value):
            raise ValueError("must begin with https://, or name this machine: a key is sent there")
        return base_url(value)

    @field_validator("engine_api_key", "gemini_api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError("a key has printable ASCII characters only, and no spaces")
        return value

    @property
    def order(self) -> tuple[str, ...]:
        """Backend names in the order in which they are tried."""
        return tuple(self.video_backends.split(","))

    @property
    def remote_deadline_s(self) -> float:
        """What somebody else gets to make a video in; the rest is for checking and storing [s]."""
        return 0.9 * self.max_generation_s

    @property
    def engine_fields(self) -> dict[str, Any]:
        """Further form fields for the engine."""
        fields: dict[str, Any] = json.loads(self.engine_options or "{}")
        return fields


def _refuse_if_enabled(backend: str, info: ValidationInfo) -> None:
    if backend in str(info.data.get("video_backends", "")).split(","):
        raise ValueError(f"is needed by the backend {backend!r} of GEN2ACT_VIDEO_BACKENDS")
