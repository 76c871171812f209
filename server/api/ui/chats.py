"""``/ui/chats``: the list of chats, and each of them without its messages."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from fastapi import Query

from server.api.dependencies import Stored
from server.api.responses.items import new_id
from server.api.schemas.ui import ChangedChat, ChatListQuery, NewChat, kept, said
from server.api.ui.parts import JSON, shown_chat, ui_router
from server.api.ui.visitors import Visitor
from server.errors import InvalidRequest
from server.storage.chats import Chat, ChatQuery, Cursor

router = ui_router()
_CURSOR = re.compile(r"([01]):([0-9]+\.?[0-9]*(?:e-[0-9]+)?):([0-9A-Za-z_-]{1,80})")


@router.get("/chats")
async def list_chats(
    query: Annotated[ChatListQuery, Query()], storage: Stored, owner: Visitor
) -> dict[str, Any]:
    """Some chats: pinned ones first, then those whose messages changed last."""
    wanted = ChatQuery(text=query.q.strip(), limit=query.limit, after=_cursor(query.after))
    page = await storage.chats.page(owner, wanted)
    end = page.next and f"{int(page.next.pinned)}:{page.next.updated!r}:{page.next.id}"
    return {"data": [shown_chat(chat) for chat in page.chats], "next": end}


@router.post("/chats", dependencies=JSON)
async def create_chat(body: NewChat, storage: Stored, owner: Visitor) -> dict[str, Any]:
    """Begin a chat."""
    now = time.time()
    new = Chat(
        id=new_id("chat"),
        title=body.title,
        pinned=False,
        model=body.model,
        settings=kept(body.settings),
        leaf=None,
        created=now,
        updated=now,
        messages=0,
    )
    await storage.chats.create(owner, new)
    return shown_chat(new)


@router.get("/chats/{chat_id}")
async def get_chat(chat_id: str, storage: Stored, owner: Visitor) -> dict[str, Any]:
    """A chat without its messages."""
    return shown_chat(await storage.chats.get(owner, chat_id))


@router.patch("/chats/{chat_id}", dependencies=JSON)
async def change_chat(
    chat_id: str, body: ChangedChat, storage: Stored, owner: Visitor
) -> dict[str, Any]:
    """Change some of its fields; a leaf that messages follow means the newest one below it."""
    return shown_chat(await storage.chats.change(owner, chat_id, said(body)))


@router.delete("/chats/{chat_id}")
async def delete_chat(chat_id: str, storage: Stored, owner: Visitor) -> dict[str, Any]:
    """Forget a chat and its messages."""
    await storage.chats.delete(owner, chat_id)
    return {"id": chat_id, "deleted": True}


def _cursor(text: str) -> Cursor | None:
    if not text:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise InvalidRequest("'after' must be the 'next' of the page before.", param="after")
    pinned, updated, number = match.groups()
    return Cursor(pinned == "1", float(updated), number)
