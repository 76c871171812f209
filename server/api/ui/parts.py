"""What the routes of ``/ui`` share."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response

from server.api.cross_origin import refuse_foreign
from server.api.dependencies import require_json
from server.api.json_body import JsonRoute
from server.storage.chats import Chat

# Of bodies: a form of another origin's page cannot be sent as JSON without being asked for first.
JSON = [Depends(require_json)]
# What nobody else's cache keeps and no browser takes for a page.
PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


async def _private(response: Response) -> None:
    response.headers.update(PRIVATE)


def ui_router() -> APIRouter:
    """A router of ``/ui``."""
    return APIRouter(
        route_class=JsonRoute,
        dependencies=[Depends(refuse_foreign), Depends(_private)],
        include_in_schema=False,
    )


def shown_chat(chat: Chat) -> dict[str, Any]:
    """A chat as the page sees it."""
    return {name: getattr(chat, name) for name in Chat.__dataclass_fields__}
