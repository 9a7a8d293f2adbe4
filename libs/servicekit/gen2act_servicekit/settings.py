"""Settings every service has. Read from the environment in `main()`, never at import."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "GEN2ACT_"
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^:/@\s]*):[^@/\s]*@")
_SECRET_NAME = re.compile(r"(key|token|secret|password)$")


class ConfigurationError(Exception):
    """The service cannot start as configured; the message is one line for the operator."""


class ServiceSettings(BaseSettings):
    """Common settings; a service subclasses this and adds its own fields.

    Every field is `GEN2ACT_<FIELD>` in the environment; an empty variable counts as unset.

    Raises:
        pydantic.ValidationError: a value is out of range (`runner.main` prints it in one line).
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Loopback unless told otherwise: nothing here asks for a password yet.
    host: str = "127.0.0.1"
    # 0 lets the system choose; the log says which.
    port: int = Field(default=0, ge=0, le=65535)
    metrics_port: int = Field(default=0, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "console"
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://")
    # The largest legitimate message is a raw 1024 px frame with simulator state.
    max_message_mb: int = Field(default=8, ge=1, le=256)
    # [s] that running calls get to end after SIGTERM.
    drain_s: float = Field(default=10.0, ge=0.0, le=600.0)


def describe(settings: BaseSettings) -> dict[str, object]:
    """The settings for a log line: secrets are replaced by stars, in URLs as well."""
    shown: dict[str, object] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) or _SECRET_NAME.search(name):
            secret = value.get_secret_value() if isinstance(value, SecretStr) else value
            value = "***" if secret else ""
        elif isinstance(value, str):
            value = without_password(value)
        shown[name] = value
    return shown


def without_password(url: str) -> str:
    """The URL with its password replaced by stars."""
    return _PASSWORD_IN_URL.sub(r"\1:***@", url)
