"""Prometheus metrics and the HTTP probes beside them: /metrics, /livez, /readyz.

Live: the event loop turns. Ready: the service wants traffic. Served from a thread, so that a
probe of a service whose loop is stuck gets an answer ("503 stuck") rather than none.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

# The library's default, so that metrics of other libraries appear too.
REGISTRY = prometheus_client.REGISTRY

RPC_STARTED = Counter("gen2act_rpc_started_total", "Calls begun", ["method"], registry=REGISTRY)
RPC_HANDLED = Counter(
    "gen2act_rpc_handled_total", "Calls ended, by status", ["method", "code"], registry=REGISTRY
)
RPC_ACTIVE = Gauge("gen2act_rpc_active", "Calls running now", ["method"], registry=REGISTRY)
RPC_SECONDS = Histogram(
    "gen2act_rpc_seconds",
    "Length of a call [s]; of a stream, from open to end",
    ["method"],
    # Unary calls take milliseconds; a rollout or a generation takes minutes.
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
    registry=REGISTRY,
)

_LOOP_ANSWER_S = 1.0


class MetricsServer:
    """A running metrics endpoint; `port` is the real one where 0 was asked."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        ready: Callable[[], bool] = lambda: True,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._ready = ready
        self._loop = loop
        owner = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0  # [s] a client that sends nothing does not keep its thread

            def do_GET(self) -> None:
                owner.respond(self)

            def log_message(self, *_: object) -> None:
                """Probes come every few seconds; they are not events."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="metrics",
            daemon=True,
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving and free the port. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        status, kind, body = 404, "text/plain", b"not found; try /metrics, /livez, /readyz\n"
        if path == "/metrics":
            encode, kind = choose_encoder(request.headers.get("Accept", ""))
            status, body = 200, encode(REGISTRY)
        elif path == "/livez":
            status, body = (200, b"live\n") if self._loop_turns() else (503, b"stuck\n")
        elif path == "/readyz":
            good = self._ready() and self._loop_turns()
            status, body = (200, b"ready\n") if good else (503, b"not ready\n")
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _loop_turns(self) -> bool:
        if self._loop is None:
            return True
        turned = threading.Event()
        try:
            self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # the loop is closed
            return False
        return turned.wait(_LOOP_ANSWER_S)


def start_metrics_server(
    port: int,
    *,
    host: str = "127.0.0.1",
    ready: Callable[[], bool] = lambda: True,
) -> MetricsServer:
    """Serve /metrics, /livez and /readyz until `close()`.

    Args:
        port: 0 lets the system choose.
        ready: asked, from another thread, at every /readyz.

    Raises:
        OSError: the port is taken.
    """
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    return MetricsServer(port, host=host, ready=ready, loop=loop)
