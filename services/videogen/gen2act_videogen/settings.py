"""Settings of the service, read from GEN2ACT_* in `main` only."""

from __future__ import annotations

import difflib

from pydantic import Field, field_validator

from gen2act_contracts.keys import VIDEO_TTL_S
from gen2act_servicekit import ServiceSettings
from gen2act_videogen.backends import BACKENDS


class VideogenSettings(ServiceSettings):
    """What can be configured; each field is GEN2ACT_<FIELD>."""

    port: int = Field(default=50051, ge=0, le=65535)
    metrics_port: int = Field(default=9101, ge=0, le=65535)
    video_backends: str = Field(
        default="demonstrator",
        description="comma-separated, tried in this order when a request names no backend",
    )
    video_ttl_s: int = Field(default=VIDEO_TTL_S, ge=60, description="life of a stored video [s]")
    video_size: int = Field(
        default=224, ge=64, le=640, multiple_of=2, description="side of the videos [px]"
    )
    video_frames: int = Field(
        default=16, ge=16, le=128, description="frames of a video that is made here"
    )
    max_concurrent: int = Field(default=1, ge=1, le=64, description="generations at a time")
    max_waiting: int = Field(default=16, ge=0, le=1024, description="generations in the queue")
    max_generation_s: float = Field(default=120.0, gt=0, description="bound of one generation [s]")

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

    @property
    def order(self) -> tuple[str, ...]:
        """Backend names in the order in which they are tried."""
        return tuple(self.video_backends.split(","))
