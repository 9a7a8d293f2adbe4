"""The composition root: everything is made and joined here, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import structlog
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gen2act_contracts.pb import robot, robot_grpc
from gen2act_orchestrator.adapters.likeness import PictureLikeness
from gen2act_orchestrator.adapters.meter import PrometheusMeter
from gen2act_orchestrator.adapters.peers import GrpcPolicy, GrpcVideoGenerator
from gen2act_orchestrator.adapters.planners import LlmPlanner, OfflinePlanner
from gen2act_orchestrator.adapters.redis_artefacts import RedisArtefactStore
from gen2act_orchestrator.adapters.redis_robots import RedisRobotStore
from gen2act_orchestrator.adapters.redis_tasks import RedisTaskStore, TaskBounds
from gen2act_orchestrator.entrypoints.gateway import RobotGateway
from gen2act_orchestrator.entrypoints.http import HttpDeps, build_app
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.fleet import Fleet
from gen2act_orchestrator.service.planning import PlanningDesk
from gen2act_orchestrator.service.ports import Planner
from gen2act_orchestrator.service.settings import RunSettings
from gen2act_orchestrator.service.sweeper import Sweeper
from gen2act_orchestrator.service.tasks import TaskService
from gen2act_orchestrator.settings import OrchestratorSettings
from gen2act_servicekit import GrpcService
from gen2act_servicekit.grpc_client import channel
from gen2act_servicekit.redis import connect
from gen2act_servicekit.settings import ConfigurationError

_log = structlog.get_logger(__name__)

NAME = "orchestrator"
_ROLLOUT_FPS = 3.0  # control loops run at 3 Hz
_HTTP_CLOSE_S = 3.0  # [s] open HTTP requests get at the end
# Leases of living attachments come back within an eighth of their length after Redis was away.
_LEASE_GRACE = 0.5


@dataclass
class Orchestrator:
    """One running replica."""

    http: FastAPI
    gateway: GrpcService
    fleet: Fleet
    sweeper: Sweeper
    drain_s: float
    _robots: RobotGateway
    _desk: PlanningDesk

    async def drain(self) -> None:
        """Bring robots to rest, hand their tasks back, then let go of the robots."""
        self.gateway.draining.set()
        await self.gateway.set_ready(False)
        await self._desk.drain()
        await self.fleet.drain(self.drain_s)
        self._robots.close()


@asynccontextmanager
async def orchestrator(
    settings: OrchestratorSettings,
    registry: CollectorRegistry,
    run: RunSettings | None = None,
) -> AsyncIterator[Orchestrator]:
    """A replica with its gateway listening and its background work going on.

    Args:
        run: bounds to use instead of those in `settings`; tests are in a hurry.

    Raises:
        ConfigurationError: an address is taken or cannot be read.
    """
    run = run or settings.run
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        videogen = channel(settings.videogen, max_message_mb=settings.max_message_mb)
        stack.push_async_callback(videogen.close)
        policy_channel = channel(settings.policy, max_message_mb=settings.max_message_mb)
        stack.push_async_callback(policy_channel.close)
        planner: Planner = OfflinePlanner()
        if settings.llm is not None:
            client = await stack.enter_async_context(httpx.AsyncClient(follow_redirects=False))
            planner = LlmPlanner(client, settings.llm)

        tasks = RedisTaskStore(
            redis, TaskBounds(live_tasks=settings.max_live_tasks, keep_s=settings.keep_tasks_s)
        )
        robots = RedisRobotStore(redis, settings.lease_s)
        artefacts = RedisArtefactStore(redis)
        policy = GrpcPolicy(policy_channel)
        deps = Deps(
            tasks=tasks,
            robots=robots,
            artefacts=artefacts,
            videos=GrpcVideoGenerator(videogen),
            policy=policy,
            likeness=PictureLikeness(),
            meter=PrometheusMeter(registry),
            clock=time.time,
            settings=run,
        )
        fleet = Fleet(deps)
        desk = PlanningDesk(tasks, planner, time.time, fleet.wake)
        service = TaskService(
            tasks,
            robots,
            artefacts,
            planner,
            desk,
            fleet,
            time.time,
            run.limits,
            settings.max_ticks,
        )
        grpc_service = GrpcService(
            NAME,
            host=settings.host,
            port=settings.gateway_port,
            max_message_mb=settings.max_message_mb,
            drain_s=settings.drain_s,
        )
        robot_gateway = RobotGateway(
            robots,
            policy,
            fleet,
            time.time,
            policy_address=settings.robot_policy_address,
            lease_s=settings.lease_s,
            refuse_while_draining=grpc_service.refuse_while_draining,
        )
        grpc_service.add(
            robot_grpc.add_RobotGatewayServicer_to_server,
            robot_gateway,
            robot.DESCRIPTOR.services_by_name["RobotGateway"],
        )
        sweeper = Sweeper(
            deps,
            desk,
            fleet,
            every_s=settings.sweep_every_s,
            lease_grace_s=settings.lease_s * _LEASE_GRACE,
        )
        http = build_app(
            HttpDeps(
                service=service,
                fleet=fleet,
                tasks=tasks,
                robots=robots,
                artefacts=artefacts,
                registry=registry,
                is_draining=grpc_service.draining.is_set,
                rollout_fps=_ROLLOUT_FPS,
            )
        )
        replica = Orchestrator(
            http, grpc_service, fleet, sweeper, settings.drain_s, robot_gateway, desk
        )
        await grpc_service.start()
        stack.push_async_callback(grpc_service.stop)
        sweeping = asyncio.create_task(sweeper.run(), name="sweeper")
        stack.push_async_callback(end, sweeping)
        stack.push_async_callback(replica.drain)
        await grpc_service.set_ready(True)
        yield replica


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: one place in the process decides about the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    settings: OrchestratorSettings, registry: CollectorRegistry, asked_to_stop: asyncio.Event
) -> None:
    """Serve until `asked_to_stop`, then drain.

    Raises:
        ConfigurationError: a port is taken.
    """
    async with orchestrator(settings, registry) as replica:
        server = _Server(
            uvicorn.Config(
                replica.http,
                host=settings.host,
                port=settings.http_port,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=int(_HTTP_CLOSE_S),
            )
        )
        serving = asyncio.create_task(_serve_http(server), name="http")
        stopping = asyncio.create_task(asked_to_stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if serving.done():
            serving.result()
            raise ConfigurationError(f"cannot listen on {settings.host}:{settings.http_port}")
        _log.info("draining", drain_s=settings.drain_s)
        await replica.drain()
        server.should_exit = True
        await serving


async def _serve_http(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's way to say that the port is taken
        raise ConfigurationError(
            f"cannot listen on {server.config.host}:{server.config.port}"
        ) from error
