"""What the routes of ``/ui`` share."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from server.api.cross_origin import refuse_foreign
from server.api.dependencies import require_json
from server.api.json_body import JsonRoute
from server.errors import ObjectNotFound
from server.storage.chats import Chat

# Of bodies: a form of another origin's page cannot be sent as JSON without being asked for first.
JSON = [Depends(require_json)]
# What nobody else's cache keeps and no browser takes for a page.
PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_NUMBER = re.compile(r"[0-9A-Za-z_-]{1,80}")


async def _private(response: Response) -> None:
    response.headers.update(PRIVATE)


def ui_router() -> APIRouter:
    """A router of ``/ui``."""
    return APIRouter(
        route_class=JsonRoute,
        dependencies=[Depends(refuse_foreign), Depends(_private)],
        include_in_schema=False,
    )


def _chat_id(chat_id: str) -> str:
    # Databases do not take every text.
    if not _NUMBER.fullmatch(chat_id):
        raise ObjectNotFound("Chat", chat_id)
    return chat_id


def _message_id(message_id: str) -> str:
    if not _NUMBER.fullmatch(message_id):
        raise ObjectNotFound("Message", message_id)
    return message_id


ChatId = Annotated[str, Depends(_chat_id)]
MessageId = Annotated[str, Depends(_message_id)]


def shown_chat(chat: Chat) -> dict[str, Any]:
    """A chat as the page sees it."""
    return {name: getattr(chat, name) for name in Chat.__dataclass_fields__}
