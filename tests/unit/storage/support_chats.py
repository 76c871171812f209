"""Chats to store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event

from server.storage import Storage
from server.storage.chat_messages import NewMessage
from server.storage.chats import Chat


def a_chat(number: str, **fields: Any) -> Chat:
    """A chat of which only the id matters."""
    whole: dict[str, Any] = {
        "id": number,
        "title": "",
        "pinned": False,
        "model": None,
        "settings": {},
        "leaf": None,
        "created": 1.0,
        "updated": 1.0,
        "messages": 0,
    }
    return Chat(**whole | fields)


def a_message(number: str, parent: str | None = None, text: str = "", **fields: Any) -> NewMessage:
    """A message whose body is its text."""
    whole: dict[str, Any] = {
        "id": number,
        "parent": parent,
        "created": 1.0,
        "body": {"content": text},
        "text": text,
    }
    return NewMessage(**whole | fields)


def chain(name: str, length: int, text: str = "") -> list[NewMessage]:
    """Messages that follow each other: ``name.0``, ``name.1`` and so on."""
    return [a_message(f"{name}.{n}", f"{name}.{n - 1}" if n else None, text) for n in range(length)]


async def put_chains(
    storage: Storage, owner: str, names: Sequence[str], length: int, text: str = ""
) -> None:
    """Chats of ``length`` messages, the later ones used later."""
    new = [
        (
            a_chat(name, leaf=f"{name}.{length - 1}", updated=float(n), messages=length),
            chain(name, length, text),
        )
        for n, name in enumerate(names)
    ]
    await storage.chat_transfer.put(owner, new)


@asynccontextmanager
async def statements(storage: Storage) -> AsyncGenerator[list[str], None]:
    """What is sent to the database meanwhile."""
    await storage.database.open()
    engine = storage.database._engine
    assert engine is not None
    sent: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
