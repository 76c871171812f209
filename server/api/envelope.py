"""OpenAI's error envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

INVALID_REQUEST = "invalid_request_error"


def envelope(
    message: str, *, kind: str = INVALID_REQUEST, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The body that OpenAI's SDKs parse: ``{"error": {message, type, param, code}}``."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def encode_error(body: Mapping[str, Any]) -> bytes:
    """``body`` as JSON; messages may quote the caller, who may send what is no valid Unicode."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        return json.dumps(body).encode()


def error_response(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """``body`` as JSON with ``status``."""
    return Response(
        encode_error(body),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/json",
    )
