"""What routes are given, and the steps both generation endpoints take."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, cast

from fastapi import Depends, Request

from server.api.event_stream import until_disconnect
from server.api.schemas.common import GenerationBody
from server.engines.base import Delta
from server.errors import CorralError
from server.generation.service import GenerationService

_IGNORED_HEADER = "x-corral-ignored-fields"
DROPPED_HEADER = "x-corral-dropped-messages"


class UnsupportedMediaType(CorralError):
    """The body is not declared as JSON."""


def _service(request: Request) -> GenerationService:
    return cast("GenerationService", request.app.state.service)


Service = Annotated[GenerationService, Depends(_service)]


async def require_json(request: Request) -> None:
    """Refuse bodies that are not declared as JSON.

    Raises:
        UnsupportedMediaType: The content type is another, or missing.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind, _, subtype = media_type.partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise UnsupportedMediaType(
            f"Unsupported content type '{media_type or 'none'}'. Send the body as JSON with the "
            "header 'Content-Type: application/json'."
        )


def ignored_headers(body: GenerationBody) -> dict[str, str]:
    """A header that names the fields of ``body`` nobody knows."""
    ignored = body.ignored_fields()
    # Field names are the caller's: keep the header valid and short.
    names = [name for name in ignored if name.isascii() and name.isprintable()][:20]
    value = ", ".join(names)[:1000].strip()
    return {_IGNORED_HEADER: value} if value else {}


async def first_delta(request: Request, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
    """Wait for the first delta, so that an early failure still has a real status."""
    try:
        return await until_disconnect(request, _next(deltas))
    except BaseException:
        await deltas.aclose()
        raise


async def _next(deltas: AsyncGenerator[Delta, None]) -> Delta | None:
    return await anext(deltas, None)
