"""`python -m gen2act_orchestrator`: HTTP API and robot gateway in one process."""

from __future__ import annotations

import asyncio
import logging
import signal

from gen2act_orchestrator.app import NAME, serve
from gen2act_orchestrator.settings import OrchestratorSettings
from gen2act_servicekit import describe, logs
from gen2act_servicekit.metrics import REGISTRY
from gen2act_servicekit.runner import main


async def _run() -> None:
    settings = OrchestratorSettings()
    logs.configure(NAME, settings.log_level, settings.log_format)
    # It logs the address of every request, which may hold a password.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logs.get(__name__).info("starting", **describe(settings))
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    await serve(settings, REGISTRY, asked_to_stop)


if __name__ == "__main__":
    main(_run)
