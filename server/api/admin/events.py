"""``GET /admin/events``: the herd as it is, whenever it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from fastapi import APIRouter, Depends
from starlette.responses import Response

from server.api.admin.access import require_admin
from server.api.admin.desk import AtDesk, Desk
from server.api.admin.views import engine_list, memory_body, news_of
from server.api.event_stream import EventStream
from server.api.schemas.answers import errors

router = APIRouter(
    tags=["admin"], responses=errors(401, 403), dependencies=[Depends(require_admin)]
)
EVERY_S = 1.0
_STREAM = {
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "description": "Events named `herd`, each with all of /admin/models and /admin/memory.",
}


@router.get("/events", responses={200: _STREAM}, response_class=Response)
async def watch_herd(desk: AtDesk) -> Response:
    """A stream of events, at most one a second, and only when something has changed.

    What was measured just now (``measured``) is left out.
    """
    return EventStream(_frames(desk))


async def _frames(desk: Desk) -> AsyncGenerator[bytes, None]:
    told: Any = None
    while not desk.options.stopping():
        body = {
            "models": engine_list(desk.herd, desk.keeper, {}),
            "memory": memory_body(desk.herd),
        }
        news = news_of(body)
        if news != told:
            told = news
            yield b"event: herd\ndata: " + orjson.dumps(body) + b"\n\n"
        await asyncio.sleep(EVERY_S)
