"""Anthropic's error envelope, made of OpenAI's, for the paths that speak Anthropic's language.

https://docs.anthropic.com/en/api/errors
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

REQUEST_ID_HEADER: Final = "request-id"
_KINDS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
# Failures that pass by themselves; Anthropic's own status for them, 529, is no standard one.
_PASSING: Final = frozenset({"model_loading", "server_stopping"})


def speaks_anthropic(path: str) -> bool:
    """Whether a path belongs to the Messages API, whether or not there is such an endpoint."""
    path = path.removeprefix("/v1")
    return path == "/messages" or path.startswith("/messages/")


def new_request_id() -> str:
    """What names a request in ``request-id`` headers and errors."""
    return f"req_{uuid.uuid4().hex}"


def anthropic_envelope(status: int, body: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """The body that Anthropic's SDKs parse.

    Args:
        status: The response's.
        body: OpenAI's envelope of the same error.
        request_id: Sent as a header too.
    """
    error = body["error"]
    message, param = error["message"], error["param"]
    if param and param not in message:
        # There is no field for it.
        message = f"{param}: {message}"
    return {
        "type": "error",
        "error": {"type": _kind(status, error["code"]), "message": message},
        "request_id": request_id,
    }


def _kind(status: int, code: str | None) -> str:
    if status < 500:
        return _KINDS.get(status, "invalid_request_error")
    return "overloaded_error" if code in _PASSING else "api_error"
