import subprocess
import sys

import pytest
from pydantic import SecretStr, ValidationError

from gen2act_servicekit import ServiceSettings, describe
from gen2act_servicekit.settings import without_password


class PlannerSettings(ServiceSettings):
    llm_api_key: SecretStr = SecretStr("")
    admin_token: str = ""


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN2ACT_PORT", "6001")
    monkeypatch.setenv("GEN2ACT_LOG_LEVEL", "debug")

    settings = ServiceSettings()

    assert (settings.port, settings.log_level) == (6001, "debug")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN2ACT_PORT", "")

    assert ServiceSettings().port == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "x"),
        ("LOG_LEVEL", "loud"),
        ("REDIS_URL", "localhost"),
        ("DRAIN_S", "-1"),
        ("MAX_MESSAGE_MB", "0"),
    ],
)
def test_a_value_out_of_range_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"GEN2ACT_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        ServiceSettings()


def test_a_description_shows_values_but_no_secrets() -> None:
    shown = describe(
        PlannerSettings(
            llm_api_key=SecretStr("k-123"),
            admin_token="t-123",
            redis_url="redis://user:p-123@db:6379/0",
        )
    )

    assert "123" not in str(shown)
    assert shown["redis_url"] == "redis://user:***@db:6379/0"
    assert shown["llm_api_key"] == shown["admin_token"] == "***"
    assert shown["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@db/0", "redis://:***@db/0"),
        ("rediss://me:a:b@db/0", "rediss://me:***@db/0"),
        ("redis://db:6379/0", "redis://db:6379/0"),
    ],
)
def test_a_password_in_a_url_is_hidden(url: str, shown: str) -> None:
    assert without_password(url) == shown


PROGRAM = """
from gen2act_contracts.errors import BundleInvalid
from gen2act_servicekit import ServiceSettings, runner
async def serve():
    ServiceSettings()
    raise BundleInvalid("models/x: step.onnx is missing")
runner.main(serve)
"""


@pytest.mark.parametrize(
    ("environment", "code", "line"),
    [
        ({"GEN2ACT_PORT": "s3cret"}, 2, "bad configuration: GEN2ACT_PORT: Input should be"),
        ({}, 1, "BUNDLE_INVALID: models/x: step.onnx is missing"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_line(
    environment: dict[str, str], code: int, line: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )

    assert ended.returncode == code
    assert ended.stderr.startswith(line)
    assert len(ended.stderr.splitlines()) == 1
    assert "s3cret" not in ended.stderr
