"""The FastAPI application and its probes."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response
from prometheus_client.exposition import choose_encoder

from gen2act_contracts.errors import Gen2ActError
from gen2act_orchestrator.entrypoints.http import events, problems, robots, stages, tasks
from gen2act_orchestrator.entrypoints.http.deps import HttpDeps

_MAX_BODY = 64 * 1024  # bytes of any body but an upload's
_PROBE_S = 2.0  # [s] the store gets to answer a readiness probe


def build_app(deps: HttpDeps) -> FastAPI:
    """The HTTP API over `deps`."""
    app = FastAPI(
        title="Gen2Act orchestrator",
        version="1",
        description="From words to motion: a task is split into stages; each is imagined as a "
        "human video and carried out by a robot. Errors are problem details (RFC 9457).",
        responses=problems.PROBLEM_RESPONSES,
    )
    app.state.deps = deps
    problems.install(app)
    for routes in (tasks, events, stages, robots):
        app.include_router(routes.router, max_body_size=_MAX_BODY)

    @app.get("/livez", tags=["probes"], summary="The process answers")
    async def livez() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/readyz", tags=["probes"], summary="Tasks and robots are welcome")
    async def readyz() -> Response:
        if deps.is_draining():
            return problems.respond(problems.make("DRAINING", 503, "shutting down", retryable=True))
        try:
            async with asyncio.timeout(_PROBE_S):
                await deps.tasks.ping()
        except TimeoutError:
            return problems.respond(
                problems.make("STORE_UNAVAILABLE", 503, "Redis does not answer", retryable=True)
            )
        except Gen2ActError as error:
            return problems.respond(problems.to_problem(error))
        return Response('{"status":"ready"}', media_type="application/json")

    @app.get("/metrics", tags=["probes"], summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(deps.registry), headers={"Content-Type": kind})

    return app
