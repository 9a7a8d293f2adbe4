from __future__ import annotations

import pytest

from gen2act_demo.results import command_line


def test_a_table_says_which_settings_it_was_made_with_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GEN2ACT_BUNDLE", raising=False)
    monkeypatch.setenv("GEN2ACT_VIDEO_BACKENDS", "demonstrator")
    monkeypatch.setenv("GEN2ACT_LLM_API_KEY", "secret")
    assert command_line("make coffee", "100-119", "upper-bound") == (
        'make evaluate ACTIVITY="make coffee" SEEDS=100-119 NAME=upper-bound '
        "GEN2ACT_VIDEO_BACKENDS=demonstrator"
    )
