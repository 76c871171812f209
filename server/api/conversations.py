"""``/v1/conversations`` and their items."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from server.api.dependencies import Owner, Stored, ignored_headers, require_json
from server.api.json_body import JsonRoute
from server.api.responses.items import REFERENCE, Item, new_id, read_items
from server.api.schemas.answers import BODY_ERRORS, IGNORED, STORED_ERRORS, errors, whole
from server.api.schemas.answers_stored import (
    AnyItem,
    ConversationObject,
    DeletedConversation,
    ItemList,
)
from server.api.schemas.conversations import ChangedConversation, NewConversation, NewItems
from server.api.schemas.stored import ListQuery, list_envelope
from server.errors import InvalidRequest
from server.storage.conversations import Conversation
from server.storage.items import Page

router = APIRouter(
    prefix="/conversations",
    tags=["conversations"],
    route_class=JsonRoute,
    responses=errors(*STORED_ERRORS),
)
_JSON = [Depends(require_json)]
_CONVERSATION = whole(ConversationObject)
_ITEM = whole(AnyItem)
_CHANGED = whole(ConversationObject, IGNORED) | errors(*BODY_ERRORS)


@router.post("", dependencies=_JSON, response_model=None, responses=_CHANGED)
async def create_conversation(
    request: Request, response: Response, body: NewConversation, storage: Stored, owner: Owner
) -> dict[str, Any]:
    """Begin a conversation."""
    response.headers.update(ignored_headers(request, body.ignored_fields()))
    new = Conversation(new_id("conv"), int(time.time()), body.metadata)
    await storage.conversations.create(owner, new, _items(body.items or []))
    return _shown(new)


@router.get("/{conversation_id}", response_model=None, responses=_CONVERSATION)
async def get_conversation(conversation_id: str, storage: Stored, owner: Owner) -> dict[str, Any]:
    """A conversation without its items."""
    return _shown(await storage.conversations.get(owner, conversation_id))


@router.post("/{conversation_id}", dependencies=_JSON, response_model=None, responses=_CHANGED)
async def update_conversation(
    request: Request,
    response: Response,
    conversation_id: str,
    body: ChangedConversation,
    storage: Stored,
    owner: Owner,
) -> dict[str, Any]:
    """Replace the metadata."""
    response.headers.update(ignored_headers(request, body.ignored_fields()))
    return _shown(await storage.conversations.relabel(owner, conversation_id, body.metadata))


@router.delete(
    "/{conversation_id}",
    response_model=None,
    responses=whole(DeletedConversation) | errors(413),
)
async def delete_conversation(
    conversation_id: str, storage: Stored, owner: Owner
) -> dict[str, Any]:
    """Forget a conversation and its items."""
    await storage.conversations.delete(owner, conversation_id)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@router.post(
    "/{conversation_id}/items",
    dependencies=_JSON,
    response_model=None,
    responses=whole(ItemList, IGNORED) | errors(*BODY_ERRORS),
)
async def create_items(
    request: Request,
    response: Response,
    conversation_id: str,
    body: NewItems,
    storage: Stored,
    owner: Owner,
) -> dict[str, Any]:
    """Add items at the end."""
    response.headers.update(ignored_headers(request, body.ignored_fields()))
    items = _items(body.items)
    await storage.conversations.append(owner, conversation_id, items)
    return list_envelope(Page(items, has_more=False))


@router.get(
    "/{conversation_id}/items", response_model=None, responses=whole(ItemList) | errors(400)
)
async def list_items(
    conversation_id: str, query: Annotated[ListQuery, Query()], storage: Stored, owner: Owner
) -> dict[str, Any]:
    """Some of the items, the newest first unless asked otherwise."""
    return list_envelope(
        await storage.conversations.page(owner, conversation_id, query.page_query())
    )


@router.get("/{conversation_id}/items/{item_id}", response_model=None, responses=_ITEM)
async def get_item(
    conversation_id: str, item_id: str, storage: Stored, owner: Owner
) -> dict[str, Any]:
    """One item."""
    return await storage.conversations.item(owner, conversation_id, item_id)


@router.delete(
    "/{conversation_id}/items/{item_id}",
    response_model=None,
    responses=_CONVERSATION | errors(413),
)
async def delete_item(
    conversation_id: str, item_id: str, storage: Stored, owner: Owner
) -> dict[str, Any]:
    """Forget one item; returns the conversation."""
    return _shown(await storage.conversations.delete_item(owner, conversation_id, item_id))


def _items(said: list[Any]) -> list[Item]:
    items = read_items(said, "items")
    for at, item in enumerate(items):
        if item["type"] == REFERENCE:
            raise InvalidRequest(
                "A conversation holds items, not references to items.", param=f"items.{at}.type"
            )
    return items


def _shown(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": dict(conversation.metadata),
    }
