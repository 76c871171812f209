"""Domain errors to OpenAI's envelope, once, at the edge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from server import errors
from server.api.auth import Unauthorized, require_key
from server.api.dependencies import UnsupportedMediaType
from server.api.envelope import envelope, error_response

log = structlog.get_logger(__name__)

_HTTP_MESSAGES = {
    404: "Unknown request URL: {method} {path}. GET /v1/models and POST /v1/chat/completions are "
    "where most clients begin; the README lists every endpoint.",
    405: "Not allowed to {method} on {path}.",
}


def describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers for an error; unknown ones tell nothing of the inside."""
    match error:
        case Unauthorized():
            return 401, envelope(str(error), code=error.code), {"www-authenticate": "Bearer"}
        case UnsupportedMediaType():
            return 415, envelope(str(error)), {}
        case errors.InvalidRequest():
            return 400, envelope(str(error), param=error.param, code=error.code), {}
        case errors.ModelNotFound():
            return 404, envelope(str(error), param="model", code="model_not_found"), {}
        case errors.Overloaded():
            body = envelope(str(error), kind="rate_limit_error", code="server_overloaded")
            return 429, body, _retry_after(error.retry_after)
        case errors.ModelLoading():
            body = envelope(str(error), kind="service_unavailable_error", code="model_loading")
            return 503, body, _retry_after(error.retry_after)
        case errors.ModelUnavailable():
            body = envelope(str(error), kind="service_unavailable_error", code="model_failed")
            return 503, body, _retry_after(error.retry_after)
        case errors.SourceError():
            body = envelope(str(error), kind="service_unavailable_error", code="model_failed")
            return 503, body, {}
        case errors.EngineDied():
            body = envelope(str(error), kind="server_error", code="engine_died")
            return 503, body, _retry_after(1.0)
        case errors.CorralError():
            return 500, envelope(str(error), kind="server_error", code="generation_failed"), {}
        case _:
            return 500, envelope("The server had an internal error.", kind="server_error"), {}


def install(app: FastAPI) -> None:
    """Register every handler on ``app``."""
    app.add_exception_handler(errors.CorralError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _domain_error(request: Request, error: Exception) -> Response:
    status, body, headers = describe(error)
    if status >= 500:
        log.warning("request failed", path=request.url.path, status=status, error=str(error))
    return error_response(status, body, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    template = _HTTP_MESSAGES.get(error.status_code, str(error.detail))
    message = template.format(method=request.method, path=request.url.path)
    return error_response(error.status_code, envelope(message), error.headers)


async def _unexpected(_: Request, error: Exception) -> Response:
    # The server logs the traceback; the caller gets none of it.
    status, body, headers = describe(error)
    return error_response(status, body, headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    try:
        # FastAPI parses bodies before it runs dependencies: no key, no word about the body.
        await require_key(request)
    except Unauthorized as unauthorized:
        status, body, headers = describe(unauthorized)
        return error_response(status, body, headers)
    return error_response(400, validation_envelope(error.errors()))


def validation_envelope(problems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The most telling of pydantic's problems, in plain words, with the path of its field."""
    problem = max(problems, key=lambda item: len(item["loc"]))
    # Locations begin with "body" and, inside unions, carry type names that are no fields.
    path = [str(part) for part in problem["loc"][1:]]
    param = ".".join(part for part in path if part.isdigit() or part.isidentifier()) or None
    kind = problem["type"]
    if kind == "json_invalid":
        return envelope("The request body is not valid JSON: " + _reason(problem))
    if kind == "missing":
        if param is None:
            return envelope("The request body is empty: send a JSON object.")
        return envelope(
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    where = f"Invalid value for '{param}': " if param else "Invalid request body: "
    return envelope(
        where + problem["msg"][0].lower() + problem["msg"][1:] + ".",
        param=param,
        code="invalid_type" if kind.endswith("_type") else "invalid_value",
    )


def _reason(problem: Mapping[str, Any]) -> str:
    reason = str(problem.get("ctx", {}).get("error", "it cannot be parsed"))
    return f"{reason} at character {problem['loc'][-1]}."


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"retry-after": str(math.ceil(seconds))}
