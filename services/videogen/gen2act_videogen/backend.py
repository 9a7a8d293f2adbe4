"""What a maker of human videos is to this service. A new one is one file and one registry line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gen2act_contracts.errors import GenerationFailed, Overloaded
from gen2act_contracts.frames import Frame

U8 = npt.NDArray[np.uint8]

ProgressCallback = Callable[[float, str], None]
"""Called with a fraction in [0, 1] and a phase in words; must not block."""


@dataclass(frozen=True)
class VideoRequest:
    """One video that somebody wants."""

    task: str  # imperative, e.g. "open the drawer"
    prompt: str  # "A person <task>, static camera"
    scene: Frame  # the scene now; should be the video's first frame
    scene_sha256: str  # hex digest of the scene image's data as it was sent
    seed: int
    simulator_state: bytes = b""  # empty unless the backend declares `uses_simulator_state`
    source_video_id: str = ""  # id of a person's own uploaded recording


@dataclass(frozen=True)
class BackendVideo:
    """What a backend made; not yet checked by the sanity gate."""

    frames: U8  # [N, S, S, 3] RGB
    fps: float
    model: str  # what made it, with its version, for the provenance


@dataclass(frozen=True)
class Availability:
    """Whether a backend can work now, and if not, why."""

    available: bool
    reason: str = ""


class ResultLost(GenerationFailed):
    """Work was asked for and its result cannot be had: it may go on, and may be charged.

    Never repeated, with no seed. Another backend may be tried. Travels as `GenerationFailed`.
    """


class QuotaExceeded(Overloaded):
    """The engine or hosted service takes no more of our requests now. Travels as `Overloaded`."""


class VideoBackend(Protocol):
    """Makes a human video from a scene image and a prompt.

    Cancelling the task that awaits `generate` cancels the generation and frees what it held.
    """

    @property
    def name(self) -> str:
        """What requests and settings call it."""

    @property
    def model(self) -> str:
        """Name and version; a video made by another model is another video to the cache."""

    @property
    def requires(self) -> str:
        """What it needs, in words, for `ListBackends` and error messages."""

    @property
    def uses_simulator_state(self) -> bool:
        """False: the service removes the simulator state before the backend sees the request."""

    @property
    def starts_at_scene(self) -> bool:
        """True: the gate refuses a video whose first frame does not resemble the scene."""

    async def start(self) -> None:
        """Begins to get ready; returns at once. `availability` tells when it is."""

    async def close(self) -> None:
        """Frees everything."""

    def availability(self) -> Availability:
        """Whether it can work now. Cheap: it is asked every second."""

    def fingerprint(self, request: VideoRequest) -> str:
        """What decides the video beside image, prompt and seed; part of the cache key.

        Raises:
            BackendRequires: the request lacks what this backend needs.
        """

    async def generate(self, request: VideoRequest, progress: ProgressCallback) -> BackendVideo:
        """Makes the video.

        Raises:
            BackendRequires: the request lacks what this backend needs, or it cannot be read.
            UnsupportedInstruction: the backend cannot show this task; names what it can.
            VideoExpired: the uploaded recording is gone.
            PeerUnavailable: an engine cannot be reached; nothing was asked of it.
            QuotaExceeded: an engine refused for now; nothing was asked of it.
            ResultLost: an engine was asked, and its answer or its video is lost.
            GenerationFailed: anything else that went wrong in the making; another seed may help.
        """
