"""Domain errors to OpenAI's envelope (`envelope` speaks Anthropic's), once, at the edge."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from server import errors
from server.api.auth import Forbidden, Unauthorized
from server.api.dependencies import UnsupportedMediaType
from server.api.envelope import INVALID_REQUEST, envelope, error_response

log = structlog.get_logger(__name__)

_UNAVAILABLE = "service_unavailable_error"
_SERVER = "server_error"


class _Translation(NamedTuple):
    error: type[Exception]
    status: int
    kind: str
    code: str | None = None
    """OpenAI's code, for errors that bring none of their own."""
    param: str | None = None
    retry_after: float | None = None


# The first class that fits counts.
_TRANSLATIONS = (
    _Translation(Unauthorized, 401, INVALID_REQUEST),
    _Translation(Forbidden, 403, INVALID_REQUEST),
    _Translation(UnsupportedMediaType, 415, INVALID_REQUEST),
    _Translation(errors.InvalidRequest, 400, INVALID_REQUEST),
    _Translation(errors.RegistryError, 400, INVALID_REQUEST, "registry_invalid"),
    _Translation(errors.ModelNotFound, 404, INVALID_REQUEST, "model_not_found", "model"),
    _Translation(errors.AdapterNotFound, 404, INVALID_REQUEST, "adapter_not_found"),
    _Translation(errors.ObjectNotFound, 404, INVALID_REQUEST),
    _Translation(errors.Overloaded, 429, "rate_limit_error", "server_overloaded"),
    _Translation(errors.ModelLoading, 503, _UNAVAILABLE, "model_loading"),
    _Translation(errors.ModelEvicted, 503, _UNAVAILABLE, "model_evicted"),
    _Translation(errors.ModelUnloaded, 503, _UNAVAILABLE, "model_unloaded"),
    _Translation(errors.AdapterFailed, 503, _UNAVAILABLE, "adapter_failed"),
    _Translation(errors.ModelUnavailable, 503, _UNAVAILABLE, "model_failed"),
    _Translation(errors.SourceError, 503, _UNAVAILABLE, "model_failed"),
    _Translation(errors.StorageFailed, 503, _UNAVAILABLE, "storage_failed"),
    _Translation(errors.ServerStopping, 503, _SERVER, "server_stopping", retry_after=1.0),
    _Translation(errors.EngineDied, 503, _SERVER, "engine_died", retry_after=1.0),
    _Translation(errors.CorralError, 500, _SERVER, "generation_failed"),
)
_HTTP_ERRORS = {
    404: (
        "unknown_url",
        "Unknown request URL: {method} {path}. GET /v1/models and POST /v1/chat/completions are "
        "where most clients begin; the README lists every endpoint.",
    ),
    405: ("method_not_supported", "Not allowed to {method} on {path}."),
}
# pydantic's words for JSON's types.
_TYPES = {
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
}


def describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers for an error; unknown ones tell nothing of the inside."""
    found = next((item for item in _TRANSLATIONS if isinstance(error, item.error)), None)
    if found is None:
        return 500, envelope("The server had an internal error.", kind=_SERVER), {}
    body = envelope(
        str(error),
        kind=found.kind,
        param=getattr(error, "param", found.param),
        code=getattr(error, "code", found.code),
    )
    if isinstance(error, errors.RegistryError):
        body["error"]["problems"] = [dataclasses.asdict(problem) for problem in error.problems]
    headers = {"www-authenticate": "Bearer"} if found.status == 401 else {}
    seconds: float | None = getattr(error, "retry_after", found.retry_after)
    if seconds is not None:
        headers["retry-after"] = str(math.ceil(seconds))
    return found.status, body, headers


def install(app: FastAPI) -> None:
    """Register every handler on ``app``."""
    app.add_exception_handler(errors.CorralError, _domain_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RecursionError, _nested_too_deeply)
    app.add_exception_handler(Exception, _unexpected)


async def _domain_error(request: Request, error: Exception) -> Response:
    status, body, headers = describe(error)
    if status >= 500:
        log.warning("request failed", path=_path(request), status=status, error=str(error))
    return error_response(_path(request), status, body, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = None, str(error.detail)
    if error.status_code in _HTTP_ERRORS:
        code, template = _HTTP_ERRORS[error.status_code]
        message = template.format(method=request.method, path=_path(request))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    body = envelope(message, code=code)
    return error_response(_path(request), error.status_code, body, headers)


def _allowed_methods(request: Request) -> list[str]:
    """Of all routes of this path; Starlette tells those of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return sorted(found)


async def _nested_too_deeply(request: Request, _: Exception) -> Response:
    # Nothing of ours recurses but over the caller's own values.
    return error_response(_path(request), 400, envelope("The request body is nested too deeply."))


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback; the caller gets none of it.
    return error_response(_path(request), *describe(error))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(_path(request), 400, validation_envelope(error.errors()))


def _path(request: Request) -> str:
    # Not `request.url`, which is put together with what the caller sent as Host.
    path: str = request.scope["path"]
    return path


def validation_envelope(problems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The most telling of pydantic's problems, in plain words, with the path of its field."""
    problem = max(problems, key=lambda item: len(item["loc"]))
    # Locations begin with "body", and hold remarks such as "[key]" that are no fields.
    path = [str(part) for part in problem["loc"][1:]]
    param = ".".join(part for part in path if part.isdigit() or part.isidentifier()) or None
    kind: str = problem["type"]
    if kind == "json_invalid":
        return envelope("The request body is not valid JSON: " + _reason(problem))
    if kind == "missing" and param is None:
        return envelope("The request body is empty: send a JSON object.")
    if kind == "missing":
        return envelope(
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    what = _TYPES.get(kind) or problem["msg"][0].lower() + problem["msg"][1:]
    return envelope(
        f"Invalid value for '{param}': {what}." if param else f"The request body {what}.",
        param=param,
        code="invalid_type" if kind.endswith("_type") else "invalid_value",
    )


def _reason(problem: Mapping[str, Any]) -> str:
    reason = str(problem.get("ctx", {}).get("error", "it cannot be parsed"))
    return f"{reason} at character {problem['loc'][-1]}."
