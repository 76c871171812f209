"""``/ui/chats/{chat_id}/messages``: a chat's tree of messages, branch by branch."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Query

from server.api.dependencies import Stored
from server.api.responses.items import new_id
from server.api.schemas.ui import ChangedMessage, NewMessage, PathPageQuery, said
from server.api.ui.bodies import message_body, shown_message, title_of
from server.api.ui.parts import JSON, ui_router
from server.api.ui.visitors import Visitor
from server.storage import chat_messages as kept

router = ui_router()


@router.get("/chats/{chat_id}/messages")
async def list_messages(
    chat_id: str, query: Annotated[PathPageQuery, Query()], storage: Stored, owner: Visitor
) -> dict[str, Any]:
    """The newest messages of a branch, or those before one, the oldest of them first."""
    page = await storage.chat_messages.path(owner, chat_id, query.path_query())
    return {"data": [shown_message(message) for message in page.messages], "before": page.before}


@router.post("/chats/{chat_id}/messages", dependencies=JSON)
async def create_message(
    chat_id: str, body: NewMessage, storage: Stored, owner: Visitor
) -> dict[str, Any]:
    """Keep a message, which becomes the chat's leaf. A user's first one names the chat."""
    new = kept.NewMessage(
        id=new_id("msg"),
        parent=body.parent,
        created=time.time(),
        body=message_body(body),
        text=body.content,
        title=title_of(body.content) if body.role == "user" else "",
    )
    return shown_message(await storage.chat_messages.append(owner, chat_id, new))


@router.patch("/chats/{chat_id}/messages/{message_id}", dependencies=JSON)
async def change_message(
    chat_id: str, message_id: str, body: ChangedMessage, storage: Stored, owner: Visitor
) -> dict[str, Any]:
    """Change some of a message's fields, as an answer grows."""
    fields = said(body)
    changed = storage.chat_messages.change(
        owner, chat_id, message_id, fields, fields.get("content")
    )
    return shown_message(await changed)


@router.delete("/chats/{chat_id}/messages/{message_id}")
async def delete_message(
    chat_id: str, message_id: str, storage: Stored, owner: Visitor
) -> dict[str, Any]:
    """Forget a message and all that follow it; says which message is the chat's leaf then."""
    leaf = await storage.chat_messages.delete(owner, chat_id, message_id)
    return {"id": message_id, "deleted": True, "leaf": leaf}
