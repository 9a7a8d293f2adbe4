from __future__ import annotations

import pytest
from pydantic import ValidationError

from gen2act_orchestrator.settings import OrchestratorSettings
from gen2act_servicekit import describe


def test_the_language_model_is_off_unless_configured() -> None:
    assert OrchestratorSettings().llm is None


def test_the_environment_configures_the_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN2ACT_LLM_BASE_URL", "http://localhost:8080/v1")
    monkeypatch.setenv("GEN2ACT_LLM_MODEL", "tiny")
    monkeypatch.setenv("GEN2ACT_LLM_API_KEY", "secret")
    settings = OrchestratorSettings()
    assert settings.llm is not None and settings.llm.api_key.get_secret_value() == "secret"
    assert "secret" not in repr(settings) + repr(describe(settings))


def test_half_a_language_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="set together"):
        OrchestratorSettings(llm_base_url="http://localhost/v1")


@pytest.mark.parametrize("bad", [{"gate_threshold": 0}, {"max_ticks": 0}, {"llm_base_url": "x"}])
def test_settings_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OrchestratorSettings(**bad)  # type: ignore[arg-type]


def test_bounds_reach_the_service_layer() -> None:
    run = OrchestratorSettings(max_restarts=1, robot_wait_s=5, gate_consecutive=4).run
    assert (run.limits.max_restarts, run.limits.robot_wait_s, run.gate_consecutive) == (1, 5.0, 4)
