"""The registry of backends: the one place that knows them all.

A backend is added as one file here and one line in `BACKENDS`; nothing else in the service changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gen2act_videogen.backend import VideoBackend
from gen2act_videogen.backends.demonstrator import DemonstratorBackend
from gen2act_videogen.backends.gemini_omni import GeminiOmniBackend
from gen2act_videogen.backends.learned import LearnedBackend
from gen2act_videogen.backends.openai_videos import OpenAIVideosBackend
from gen2act_videogen.backends.recording import RecordingBackend
from gen2act_videogen.store import VideoStore

if TYPE_CHECKING:
    from gen2act_videogen.settings import VideogenSettings  # which reads the registry's names


class Entry(NamedTuple):
    """How a backend is made, and what it needs in words, also while it is not enabled."""

    requires: str
    make: Callable[[VideogenSettings, VideoStore], VideoBackend]


BACKENDS: Mapping[str, Entry] = {
    "demonstrator": Entry(
        DemonstratorBackend.requires,
        lambda settings, store: DemonstratorBackend(
            workers=settings.max_concurrent,
            image_size=settings.video_size,
            frames=settings.video_frames,
        ),
    ),
    "learned": Entry(
        LearnedBackend.requires,
        lambda settings, store: LearnedBackend(
            settings.video_bundle,
            frames=settings.video_frames,
            image_size=settings.video_size,
        ),
    ),
    "openai-videos": Entry(
        OpenAIVideosBackend.requires,
        lambda settings, store: OpenAIVideosBackend(
            settings.engine_base_url,
            api_key=settings.engine_api_key,
            model=settings.engine_model,
            mode=settings.engine_mode,
            size=settings.engine_size,
            frames=settings.engine_frames,
            fps=settings.engine_fps,
            options=settings.engine_fields,
            image_size=settings.video_size,
            deadline_s=settings.remote_deadline_s,
        ),
    ),
    "gemini-omni": Entry(
        GeminiOmniBackend.requires,
        lambda settings, store: GeminiOmniBackend(
            settings.gemini_api_key,
            model=settings.gemini_model,
            base_url=settings.gemini_base_url,
            resolution=settings.gemini_resolution,
            duration_s=settings.gemini_duration_s,
            image_size=settings.video_size,
            deadline_s=settings.remote_deadline_s,
        ),
    ),
    "file": Entry(
        RecordingBackend.requires,
        lambda settings, store: RecordingBackend(store, image_size=settings.video_size),
    ),
}


def build(settings: VideogenSettings, store: VideoStore) -> Sequence[VideoBackend]:
    """The enabled backends: those of the configured order, and `file`, which needs nothing."""
    names = dict.fromkeys((*settings.order, "file"))
    return [BACKENDS[name].make(settings, store) for name in names]
