"""`python -m gen2act_videogen`: the video generation service."""

from __future__ import annotations

import logging

from gen2act_servicekit import describe, logs, runner
from gen2act_videogen.service import start
from gen2act_videogen.settings import VideogenSettings


async def serve() -> None:
    """Reads the environment and serves until a signal."""
    settings = VideogenSettings()
    logs.configure("videogen", settings.log_level, settings.log_format)
    # They log every address and header; an address may carry a token.
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logs.get(__name__).info("starting", **describe(settings))
    service = await start(settings)
    await service.run_until_signal()


if __name__ == "__main__":
    runner.main(serve)
