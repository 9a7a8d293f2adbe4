"""What the service refuses to start with."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gen2act_servicekit import describe
from gen2act_videogen.backends import build
from gen2act_videogen.settings import VideogenSettings
from gen2act_videogen.testing import MemoryVideoStore

ENGINE = {"engine_base_url": "http://engine:8091/v1"}


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"video_backends": "demonstrator,openai-videos"}, "engine_base_url", "'openai-videos'"),
        ({"video_backends": "gemini-omni"}, "gemini_api_key", "'gemini-omni'"),
        ({"engine_base_url": "engine:8091"}, "engine_base_url", "http://"),
        ({"engine_base_url": "http://"}, "engine_base_url", "name a host"),
        ({"engine_base_url": "http://engine:port"}, "engine_base_url", "no address"),
        ({"engine_options": "{"}, "engine_options", "no JSON"),
        ({"engine_options": "[1]"}, "engine_options", "JSON object"),
        ({"engine_options": '{"num_frames": 1}'}, "engine_options", "num_frames cannot"),
        ({"engine_mode": "later"}, "engine_mode", "async"),
        ({"engine_api_key": "sk secret\n"}, "engine_api_key", "no spaces"),
        ({"gemini_base_url": "http://gateway/v1beta"}, "gemini_base_url", "https://"),
        ({"gemini_duration_s": 2}, "gemini_duration_s", "3"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        VideogenSettings(**settings)
    (error,) = refused.value.errors()
    assert error["loc"] == (field,)
    assert words in error["msg"]


async def test_the_order_is_one_setting_and_decides_what_is_built() -> None:
    settings = VideogenSettings(
        video_backends="openai-videos, gemini-omni,demonstrator",
        gemini_api_key="AIza",  # type: ignore[arg-type]
        engine_options='{"num_inference_steps": 4}',
        max_generation_s=100,
        **ENGINE,
    )
    assert settings.order == ("openai-videos", "gemini-omni", "demonstrator")
    backends = build(settings, MemoryVideoStore())
    assert [each.name for each in backends] == [*settings.order, "file"]
    assert settings.remote_deadline_s == 90
    for each in backends:
        await each.close()


def test_by_default_neither_a_key_nor_the_simulator_is_needed() -> None:
    backends = build(VideogenSettings(), MemoryVideoStore())
    assert [each.name for each in backends] == ["learned", "file"]
    assert not any(each.uses_simulator_state for each in backends)


def test_keys_are_not_described() -> None:
    settings = VideogenSettings(
        engine_api_key="sk-secret",  # type: ignore[arg-type]
        gemini_api_key="AIza-secret",  # type: ignore[arg-type]
        **ENGINE,
    )
    shown = describe(settings)
    assert "secret" not in str(shown) + repr(settings)
    assert shown["engine_api_key"] == shown["gemini_api_key"] == "***"
