"""Structured logs: one event per line, with the ids of the task, stage and session it is about."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import structlog
from structlog.typing import FilteringBoundLogger, Processor


def configure(
    service: str,
    level: str = "info",
    fmt: Literal["json", "console"] = "console",
) -> None:
    """Send our events and those of libraries to standard error. Call once, in `main()`.

    Args:
        service: name that stands in every line.
        level: debug, info, warning or error.
        fmt: "json" for machines, "console" for people.
    """

    def name_service(_: Any, __: str, event: structlog.typing.EventDict) -> Any:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor]
    if fmt == "json":
        render = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Loggers made at import must follow a later `configure`.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)


def get(name: str = "") -> FilteringBoundLogger:
    """A logger; its events carry what `bind` and `bound` put in the context."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def bind(**ids: object) -> None:
    """Put ids (task_id, stage_id, session_id, ...) on every later event of this asyncio task."""
    structlog.contextvars.bind_contextvars(**ids)


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """`bind` for the length of a block."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield
