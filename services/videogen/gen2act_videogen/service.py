"""The composition root: settings → a running service."""

from __future__ import annotations

import asyncio
import contextlib

from gen2act_contracts import pb
from gen2act_contracts.errors import StoreUnavailable
from gen2act_servicekit import GrpcService, logs
from gen2act_servicekit.redis import connect
from gen2act_videogen.admission import Admission
from gen2act_videogen.backends import build
from gen2act_videogen.generation import Generator
from gen2act_videogen.making import Maker
from gen2act_videogen.servicer import VideoGenerationServicer
from gen2act_videogen.settings import VideogenSettings
from gen2act_videogen.store import RedisVideoStore, VideoStore

_LOG = logs.get(__name__)

READINESS_PERIOD_S = 1.0


async def start(settings: VideogenSettings) -> GrpcService:
    """Serves; ready as soon as Redis and the default backend are.

    Raises:
        ConfigurationError: a port is taken or the Redis URL cannot be read.
    """
    redis = connect(settings.redis_url)
    store = RedisVideoStore(redis, settings.video_ttl_s)
    generator = Generator(
        build(settings, store),
        settings.order,
        Maker(
            store,
            Admission(running=settings.max_concurrent, waiting=settings.max_waiting),
            max_generation_s=settings.max_generation_s,
            attempts=settings.video_attempts,
        ),
    )
    service = GrpcService.from_settings("videogen", settings)
    service.add(
        pb.videogen_grpc.add_VideoGenerationServicer_to_server,
        VideoGenerationServicer(generator, service.refuse_while_draining),
        pb.videogen.DESCRIPTOR.services_by_name["VideoGeneration"],
    )
    await service.start()
    # Closed in reverse: nothing may use what is closed already.
    service.at_drain(redis.aclose)
    for backend in generator.backends.values():
        await backend.start()
        service.at_drain(backend.close)
    service.at_drain(generator.close)
    watch = asyncio.create_task(_watch_readiness(service, store, generator))

    async def stop_watching() -> None:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch

    service.at_drain(stop_watching)
    return service


async def _watch_readiness(service: GrpcService, store: VideoStore, generator: Generator) -> None:
    default = generator.backends[generator.order[0]]
    told: str | None = None
    while True:
        state = default.availability()
        problem = "" if state.available else f"backend {default.name!r}: {state.reason}"
        try:
            await store.ping()
        except StoreUnavailable as error:
            problem = str(error)
        await service.set_ready(not problem)
        if problem != told:
            told = problem
            _LOG.info("ready") if not problem else _LOG.warning("not_ready", reason=problem)
        await asyncio.sleep(READINESS_PERIOD_S)
