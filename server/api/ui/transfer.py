"""Export and import of chats."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import orjson
from fastapi import Query
from fastapi.responses import StreamingResponse

from server.api.dependencies import Stored
from server.api.responses.items import new_id
from server.api.schemas.ui import ImportedChat, ImportedFile, imported_chat, kept
from server.api.ui.bodies import message_body
from server.api.ui.parts import JSON, PRIVATE, shown_chat, ui_router
from server.api.ui.visitors import Visitor
from server.storage import Storage
from server.storage.chat_messages import NewMessage
from server.storage.chat_transfer import Entry
from server.storage.chats import Chat

router = ui_router()
_HEAD: Final = b'{"format":"corral-chats","version":1,"chats":[\n'
_TAIL: Final = b"]}\n"
_SPEAKERS: Final = {"system": "System", "user": "User", "assistant": "Assistant"}


@router.get("/export")
async def export_all(storage: Stored, owner: Visitor) -> StreamingResponse:
    """All chats with all their messages, as a JSON file that can be imported."""
    name = f"corral-chats-{datetime.now(UTC):%Y-%m-%d}.json"
    parts = _as_json(storage, owner, storage.chat_transfer.chats(owner))
    return await _file(parts, name, "application/json")


@router.get("/chats/{chat_id}/export")
async def export_chat(
    chat_id: str,
    storage: Stored,
    owner: Visitor,
    form: Annotated[Literal["json", "markdown"], Query(alias="format")] = "json",
) -> StreamingResponse:
    """A chat: all its messages as JSON that can be imported, or the shown branch as Markdown."""
    chat = await storage.chats.get(owner, chat_id)
    if form == "markdown":
        text = _as_markdown(storage, owner, chat)
        return await _file(text, f"{chat.title or 'chat'}.md", "text/markdown; charset=utf-8")
    parts = _as_json(storage, owner, _only(chat))
    return await _file(parts, f"{chat.title or 'chat'}.json", "application/json")


@router.post("/import", dependencies=JSON)
async def import_chats(body: ImportedFile, storage: Stored, owner: Visitor) -> dict[str, Any]:
    """Keep all chats of a file beside those there are, or none of them; their ids are made anew."""
    chats = []
    for at, chat in enumerate(body.chats):
        chats.append(_renumbered(imported_chat(chat, at)))
        await asyncio.sleep(0)  # others' answers go on meanwhile
    await storage.chat_transfer.put(owner, chats)
    return {"imported": len(chats)}


async def _file(parts: AsyncIterator[bytes], name: str, media_type: str) -> StreamingResponse:
    # Read before the status is sent, so that a failure has its own.
    first = await anext(parts)

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    # Characters that no file system of theirs takes, and those that a header does not.
    safe = "".join("_" if char in '<>:"/\\|?*' or not char.isprintable() else char for char in name)
    plain = "".join(char if char.isascii() else "_" for char in safe)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"
    headers = PRIVATE | {"content-disposition": disposition}
    return StreamingResponse(all_parts(), headers=headers, media_type=media_type)


async def _only(chat: Chat) -> AsyncIterator[list[Chat]]:
    yield [chat]


async def _as_json(
    storage: Storage, owner: str, pages: AsyncIterator[list[Chat]]
) -> AsyncIterator[bytes]:
    current: str | None = None
    comma = b""
    async for page in pages:
        async for chat, entries in _with_messages(storage, owner, page):
            parts = []
            if chat.id != current:
                parts += [_HEAD if current is None else b"]},\n", _begun(chat)]
                current, comma = chat.id, b""
            for entry in entries:
                parts += [comma, orjson.dumps(_exported(entry))]
                comma = b",\n"
            yield b"".join(parts)
    yield b"]}" + _TAIL if current is not None else _HEAD + _TAIL


async def _with_messages(
    storage: Storage, owner: str, page: list[Chat]
) -> AsyncIterator[tuple[Chat, list[Entry]]]:
    """Chats with their messages in parts: each chat at least once, if only with none."""
    left = deque(page)
    async for part in storage.chat_transfer.messages(owner, [chat.id for chat in page]):
        for number, entries in groupby(part, lambda entry: entry.chat_id):
            while left[0].id != number:
                yield left.popleft(), []
            yield left[0], list(entries)
    for chat in left:
        yield chat, []


def _begun(chat: Chat) -> bytes:
    """A chat's JSON as far as its messages."""
    fields = {name: value for name, value in shown_chat(chat).items() if name != "messages"}
    return orjson.dumps(fields)[:-1] + b',"messages":[\n'


def _exported(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "parent": entry.parent, **entry.body, "created": entry.created}


async def _as_markdown(storage: Storage, owner: str, chat: Chat) -> AsyncIterator[bytes]:
    yield f"# {chat.title or 'Chat'}\n".encode()
    async for part in storage.chat_transfer.branch(owner, chat.id):
        yield "".join(map(_section, part)).encode()


def _section(entry: Entry) -> str:
    body: Mapping[str, Any] = entry.body
    model = f" ({body['model']})" if body["model"] else ""
    thought = body["reasoning"].strip()
    aside = (
        f"<details><summary>Reasoning</summary>\n\n{thought}\n\n</details>\n\n" if thought else ""
    )
    return f"\n## {_SPEAKERS[body['role']]}{model}\n\n{aside}{body['content'].strip()}\n"


def _renumbered(chat: ImportedChat) -> tuple[Chat, list[NewMessage]]:
    numbers = {message.id: new_id("msg") for message in chat.messages}
    messages = [
        NewMessage(
            id=numbers[message.id],
            parent=message.parent and numbers[message.parent],
            created=message.created,
            body=message_body(message),
            text=message.content,
        )
        for message in chat.messages
    ]
    return (
        Chat(
            id=new_id("chat"),
            title=chat.title,
            pinned=chat.pinned,
            model=chat.model,
            settings=kept(chat.settings),
            leaf=_leaf(chat, numbers),
            created=chat.created,
            updated=chat.updated,
            messages=len(messages),
        ),
        messages,
    )


def _leaf(chat: ImportedChat, numbers: Mapping[str, str]) -> str | None:
    """The newest message below the leaf that the file names, or of all."""
    if not chat.messages:
        return None
    if chat.leaf is None:
        return numbers[chat.messages[-1].id]
    leaf, below = chat.leaf, {chat.leaf}
    for message in chat.messages:
        if message.parent in below:
            leaf = message.id
            below.add(leaf)
    return numbers[leaf]
