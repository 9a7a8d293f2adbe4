"""The outermost frame of a service process: run it, and fail in one readable line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_settings import SettingsError

from gen2act_contracts.errors import Gen2ActError
from gen2act_servicekit.settings import PREFIX, ConfigurationError

BAD_CONFIGURATION = 2
FAILED = 1
INTERRUPTED = 130


def main(service: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run `service()` and exit: 0 ended well, 1 failed, 2 badly configured, 130 interrupted.

    Args:
        service: reads its settings and serves until a signal.
    """
    try:
        asyncio.run(service())
    except ValidationError as error:
        _exit(BAD_CONFIGURATION, f"bad configuration: {_one_line(error)}")
    except (ConfigurationError, SettingsError) as error:
        _exit(BAD_CONFIGURATION, f"bad configuration: {error}")
    except Gen2ActError as error:
        _exit(FAILED, f"{error.code}: {error.message}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def _exit(code: int, line: str) -> NoReturn:
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(code)


def _one_line(error: ValidationError) -> str:
    """Each bad variable with what would be valid; values are left out, they may be secrets."""
    return "; ".join(
        f"{PREFIX}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
