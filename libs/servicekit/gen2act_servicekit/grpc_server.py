"""One way to run a gRPC service: limits, typed errors, health, reflection, metrics, drain."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gen2act_contracts.errors import Draining
from gen2act_servicekit import logs
from gen2act_servicekit.interceptor import EdgeInterceptor
from gen2act_servicekit.metrics import MetricsServer, start_metrics_server
from gen2act_servicekit.settings import ConfigurationError, ServiceSettings

_log = logs.get(__name__)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# [s] Bound on closing things after the drain.
_CLOSE_S = 5.0


class _Register(Protocol):
    def __call__(self, servicer: Any, server: grpc.aio.Server) -> None: ...


class GrpcService:
    """A gRPC server with everything around the domain. Construct inside a running event loop.

        service = GrpcService.from_settings("policy", settings)
        service.add(pb.policy_grpc.add_PolicyServicer_to_server, servicer,
                    pb.policy.DESCRIPTOR.services_by_name["Policy"])
        await service.start()
        await service.set_ready(True)
        await service.run_until_signal()

    Health names: "" is live (serving from start to the end of the drain); `name` and each added
    service's full name are ready; "`name`.model" is model loaded, once `set_model_loaded` was
    called.

    Args:
        name: of the service, e.g. "policy".
        host, port: to listen on; port 0 lets the system choose.
        metrics_port: of /metrics, /livez, /readyz; None: no such endpoint.
        max_message_mb: [MiB] of one message, both ways.
        drain_s: [s] that running calls get after a signal before they are cancelled.
        max_concurrent_rpcs: more are refused with RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        metrics_port: int | None = None,
        max_message_mb: int = 8,
        drain_s: float = 10.0,
        max_concurrent_rpcs: int = 1024,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        # Set when the drain begins: long streams watch it to end at a good moment.
        self.draining = asyncio.Event()
        self._metrics_port = metrics_port
        self._metrics: MetricsServer | None = None
        self._drain_s = drain_s
        self._ready = False
        self._names: list[str] = []
        self._health = health.aio.HealthServicer()
        self._at_drain: list[Callable[[], Awaitable[None]]] = []
        self._stopped = False
        limit = max_message_mb * 1024 * 1024
        self.server = grpc.aio.server(
            interceptors=[EdgeInterceptor()],
            maximum_concurrent_rpcs=max_concurrent_rpcs,
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
                # A port in use must be an error, not two servers that share it.
                ("grpc.so_reuseport", 0),
                # Notice a peer that vanished without closing (cable, power) within 15 s.
                ("grpc.keepalive_time_ms", 10_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                # Our clients' keepalive pings, also between calls, are no offence.
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    @classmethod
    def from_settings(
        cls, name: str, settings: ServiceSettings, *, port: int | None = None
    ) -> GrpcService:
        return cls(
            name,
            host=settings.host,
            port=settings.port if port is None else port,
            metrics_port=settings.metrics_port,
            max_message_mb=settings.max_message_mb,
            drain_s=settings.drain_s,
        )

    def add(self, register: _Register, servicer: Any, descriptor: ServiceDescriptor) -> None:
        """Serve a servicer: `register` is the generated `add_XServicer_to_server`."""
        register(servicer, self.server)
        self._names.append(descriptor.full_name)

    def at_drain(self, close: Callable[[], Awaitable[None]]) -> None:
        """Run `close()` after the drain, in reverse order of registration."""
        self._at_drain.append(close)

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def metrics_port(self) -> int | None:
        """The real port of the metrics endpoint, once started."""
        return self._metrics.port if self._metrics else None

    @property
    def address(self) -> str:
        """host:port for clients on this machine, once started."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", "[::]"} else self.host
        return f"{host}:{self.port}"

    async def start(self) -> int:
        """Listen; live, not ready yet.

        Returns:
            The port.

        Raises:
            ConfigurationError: a port is taken or the host is not ours.
        """
        names = [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self.server)
        try:
            self.port = self.server.add_insecure_port(f"{self.host}:{self.port}")
        except RuntimeError:
            raise ConfigurationError(f"cannot listen on {self.host}:{self.port}") from None
        if self._metrics_port is not None:
            try:
                self._metrics = start_metrics_server(
                    self._metrics_port, host=self.host, ready=lambda: self._ready
                )
            except OSError as error:
                raise ConfigurationError(
                    f"cannot serve metrics on {self.host}:{self._metrics_port}: {error.strerror}"
                ) from None
        await self.server.start()
        await self._health.set("", _SERVING)
        await self.set_ready(self._ready)
        _log.info("listening", port=self.port, metrics_port=self.metrics_port)
        return self.port

    async def set_ready(self, ready: bool) -> None:
        """Say whether this service wants traffic. Never true again once it drains."""
        self._ready = ready and not self.draining.is_set()
        for name in [self.name, *self._names]:
            await self._health.set(name, _SERVING if self._ready else _NOT_SERVING)

    async def set_model_loaded(self, loaded: bool) -> None:
        """Say whether the model is in memory; ready is set apart."""
        await self._health.set(f"{self.name}.model", _SERVING if loaded else _NOT_SERVING)

    def refuse_while_draining(self) -> None:
        """For methods that begin something long. Raises Draining."""
        if self.draining.is_set():
            raise Draining(f"{self.name} is shutting down; try another replica")

    async def stop(self) -> None:
        """Drain and close: not ready, no new calls, running ones get `drain_s` to end."""
        if self._stopped:
            return
        self._stopped = True
        self.draining.set()
        await self.set_ready(False)
        await self.server.stop(self._drain_s)
        for close in reversed(self._at_drain):
            try:
                await asyncio.wait_for(close(), _CLOSE_S)
            except Exception:
                # One thing that fails to close must not keep the others open.
                _log.exception("close_failed")
        if self._metrics:
            await asyncio.to_thread(self._metrics.close)

    async def run_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. A second signal ends the drain at once."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        hurry = asyncio.Event()

        def on_signal() -> None:
            (hurry if asked.is_set() else asked).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        try:
            await asked.wait()
            _log.info("draining", drain_s=self._drain_s)
            stop = asyncio.ensure_future(self.stop())
            hurried = asyncio.ensure_future(hurry.wait())
            await asyncio.wait({stop, hurried}, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not stop.done():
                await self.server.stop(0)
            await stop
            _log.info("stopped")
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
