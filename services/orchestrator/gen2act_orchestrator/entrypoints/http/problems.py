"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gen2act_contracts import errors

_log = structlog.get_logger(__name__)

# The nearest ancestor decides.
_STATUS: dict[type[errors.Gen2ActError], int] = {
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.ContractMismatch: 409,
    errors.PlanningFailed: 422,
    errors.PlannerUnavailable: 503,
    errors.GenerationFailed: 422,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.RobotFault: 409,
    errors.Gen2ActError: 500,
}
_RETRY_AFTER_S = 2
_MAX_ERRORS = 10


class Problem(BaseModel):
    """Body of every error, as application/problem+json."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:gen2act:error:UNKNOWN_ROBOT",
                    "title": "Unknown robot",
                    "status": 404,
                    "detail": "there is no robot 'sim-9'; known robots: sim-1",
                    "code": "UNKNOWN_ROBOT",
                    "retryable": False,
                }
            ]
        }
    )
    type: str = Field(description="urn:gen2act:error:<code>")
    title: str
    status: int
    detail: str = Field(description="what is wrong and what would be valid")
    code: str = Field(description="of the error tree; programs may rely on it")
    retryable: bool = Field(description="the same request may succeed a little later")
    errors: list[dict[str, str]] = Field(default=[], description="where, in an invalid body")


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "model": Problem,
        "description": "Problem details",
        "content": {"application/problem+json": {}},
    }
}


def respond(problem: Problem) -> JSONResponse:
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if problem.status == 503 else None
    return JSONResponse(
        problem.model_dump(exclude_defaults=False),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=headers,
    )


def to_problem(error: errors.Gen2ActError) -> Problem:
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    return make(error.code, status, error.message, retryable=error.retryable)


def make(
    code: str,
    status: int,
    detail: str,
    *,
    retryable: bool = False,
    where: list[dict[str, str]] | None = None,
) -> Problem:
    return Problem(
        type=f"urn:gen2act:error:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        # Details quote what the client sent, which need not be writable as UTF-8.
        detail=detail.encode("utf-8", "replace").decode(),
        code=code,
        retryable=retryable,
        errors=where or [],
    )


class _TooLarge:
    """Starlette's limit on bodies answers in plain text, past all handlers; in our form here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def send_ours(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                replaced = True
                problem = make("BODY_TOO_LARGE", 413, "the request body is larger than accepted")
                await respond(problem)(scope, receive, send)
            elif not replaced:
                await send(message)

        await self._app(scope, receive, send_ours)


def install(app: FastAPI) -> None:
    """Every error of this app becomes problem details."""
    app.add_middleware(_TooLarge)

    @app.exception_handler(errors.Gen2ActError)
    async def ours(_: Request, error: errors.Gen2ActError) -> JSONResponse:
        return respond(to_problem(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        where = [
            {"where": ".".join(str(part)[:64] for part in item["loc"]), "message": item["msg"]}
            for item in error.errors()[:_MAX_ERRORS]
        ]
        # The instruction is the one field with an error code of its own.
        only = {item["where"] for item in where}
        code = "INVALID_INSTRUCTION" if only == {"body.instruction"} else "INVALID_INPUT"
        detail = "; ".join(f"{item['where']}: {item['message']}" for item in where)
        return respond(make(code, 422, detail, where=where))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, UnicodeDecodeError):
            return respond(make("INVALID_INPUT", 400, "the request body is not valid UTF-8"))
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(
            error.status_code, "INVALID_INPUT" if error.status_code < 500 else "INTERNAL"
        )
        response = respond(make(code, error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        incident = uuid.uuid4().hex[:12]
        _log.error("defect", path=request.url.path, incident=incident, exc_info=error)
        detail = f"internal error {incident}; the server's log has the details"
        return respond(make("INTERNAL", 500, detail))
