"""``GET /admin/events``: the herd as it is, whenever it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends
from starlette.responses import Response

from server.api.admin.access import require_admin
from server.api.admin.desk import AtDesk, Desk
from server.api.admin.views import engine_list, memory_body, news_of
from server.api.event_stream import EventStream
from server.api.schemas.answers import errors
from server.api.schemas.answers_streams import ADMIN_EVENTS, streamed

router = APIRouter(tags=["admin"], responses=errors(403), dependencies=[Depends(require_admin)])
EVERY_S = 1.0
_STREAM: Final = {
    "content": streamed(ADMIN_EVENTS),
    "description": "Events named `herd`.",
}


@router.get("/events", response_class=Response, responses={200: _STREAM})
async def watch_herd(desk: AtDesk) -> Response:
    """All of /admin/models and /admin/memory, whenever something in them has changed.

    At most once a second. What was measured just now (``measured``) is left out.
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
