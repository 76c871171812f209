"""Errors as response bodies: OpenAI's envelope, and Anthropic's where a path speaks that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from server.api.anthropic_errors import (
    REQUEST_ID_HEADER,
    anthropic_envelope,
    new_request_id,
    speaks_anthropic,
)

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
    path: str, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """``body`` as JSON with ``status``, in the language of ``path``.

    Args:
        path: The request's.
        body: OpenAI's envelope.
    """
    sent = dict(headers or {})
    if speaks_anthropic(path):
        request_id = sent[REQUEST_ID_HEADER] = new_request_id()
        body = anthropic_envelope(status, body, request_id)
    return Response(
        encode_error(body), status_code=status, headers=sent, media_type="application/json"
    )
