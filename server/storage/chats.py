"""The chat page's chats, each a tree of messages (`server.storage.chat_messages`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import and_, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server.errors import InvalidRequest, ObjectNotFound
from server.storage.chat_tree import tip
from server.storage.database import Database
from server.storage.search import fold, holds
from server.storage.tables import chats as table


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A chat without its messages.

    Args:
        title: "" until it has one.
        settings: JSON; not looked into.
        leaf: Id of the message at the end of the branch that is shown; None: there is none.
        created: Unix time in seconds.
        updated: When its messages last changed.
        messages: How many there are, in all branches.
    """

    id: str
    title: str
    pinned: bool
    model: str | None
    settings: Mapping[str, Any]
    leaf: str | None
    created: float
    updated: float
    messages: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of chats ended: what its last one is sorted by."""

    pinned: bool
    updated: float
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuery:
    """Which chats are wanted.

    Args:
        text: What their titles or messages hold; "" for any.
        limit: Most chats of the page.
        after: Where the page before ended, or None.
    """

    text: str = ""
    limit: int = 50
    after: Cursor | None = None


@dataclass(frozen=True, slots=True)
class ChatPage:
    """Some chats, and where to go on; None: there are no more."""

    chats: Sequence[Chat]
    next: Cursor | None


# Searches that run at once: one that finds nothing reads all of an owner's messages.
_SEARCHES: Final = 2
COLUMNS: Final = tuple(table.c[name] for name in Chat.__dataclass_fields__)
_SORTED_BY: Final = (table.c.pinned, table.c.updated, table.c.id)
# That of the list: pinned ones first, then those whose messages changed last.
ORDER: Final = tuple(column.desc() for column in _SORTED_BY)


class Chats:
    """The chats of a database. Every method may raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._searching = asyncio.Semaphore(_SEARCHES)

    async def create(self, owner: str, new: Chat) -> None:
        """Keep a new chat, without messages."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(table).values(chat_row(owner, new, last=0)))

        await self._database.write(work)

    async def get(self, owner: str, number: str) -> Chat:
        """One chat.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> Chat:
            return await find_chat(connection, owner, number)

        return await self._database.read(work)

    async def change(self, owner: str, number: str, changes: Mapping[str, Any]) -> Chat:
        """Change some of its fields: ``title``, ``pinned``, ``model``, ``settings``, ``leaf``.

        A leaf that messages follow stands for the newest one below it.

        Raises:
            ObjectNotFound: The owner has none of this id.
            InvalidRequest: It has no message that is to be the leaf.
        """

        async def work(connection: AsyncConnection) -> Chat:
            chat = await find_chat(connection, owner, number, lock=True)
            changed = dict(changes)
            if changed.get("leaf") is not None:
                changed["leaf"] = await tip(connection, number, changed["leaf"])
                if changed["leaf"] is None:
                    raise no_message(changes["leaf"], "leaf")
            if changed:
                await update_chat(connection, number, **changed)
            return replace(chat, **changed)

        return await self._database.write(work)

    async def delete(self, owner: str, number: str) -> None:
        """Forget a chat and its messages.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> None:
            await find_chat(connection, owner, number)
            await connection.execute(delete(table).where(table.c.id == number))

        await self._database.write(work)

    async def page(self, owner: str, query: ChatQuery) -> ChatPage:
        """Some chats of an owner, pinned ones first, then those whose messages changed last."""

        async def work(connection: AsyncConnection) -> ChatPage:
            rows = (await connection.execute(page_statement(owner, query))).all()
            found = [Chat(**row._mapping) for row in rows[: query.limit]]
            if len(rows) <= query.limit:
                return ChatPage(found, None)
            end = found[-1]
            return ChatPage(found, Cursor(end.pinned, end.updated, end.id))

        if not query.text:
            return await self._database.read(work)
        async with self._searching:
            return await self._database.read(work)


def page_statement(owner: str, query: ChatQuery) -> Any:
    """One more chat than the page has, so that its end is known."""
    wanted = select(*COLUMNS).where(table.c.owner == owner)
    if query.after is not None:
        after = query.after
        wanted = wanted.where(tuple_(*_SORTED_BY) < (after.pinned, after.updated, after.id))
    if fold(query.text):
        wanted = wanted.where(holds(query.text))
    return wanted.order_by(*ORDER).limit(query.limit + 1)


async def find_chat(
    connection: AsyncConnection, owner: str, number: str, *, lock: bool = False
) -> Chat:
    """One chat, within a transaction.

    Args:
        lock: Nobody else changes it until the transaction ends.

    Raises:
        ObjectNotFound: The owner has none of this id.
    """
    wanted = select(*COLUMNS).where(and_(table.c.id == number, table.c.owner == owner))
    row = (await connection.execute(wanted.with_for_update() if lock else wanted)).one_or_none()
    if row is None:
        raise ObjectNotFound("Chat", number)
    return Chat(**row._mapping)


async def update_chat(connection: AsyncConnection, number: str, **changed: Any) -> None:
    """Change columns of a chat, within a transaction that writes."""
    if "title" in changed:
        changed["folded"] = fold(changed["title"])
    await connection.execute(update(table).where(table.c.id == number).values(changed))


def chat_row(owner: str, chat: Chat, *, last: int) -> dict[str, Any]:
    """A chat as a row.

    Args:
        last: Position of its newest message, 0 without any.
    """
    row = {name: getattr(chat, name) for name in Chat.__dataclass_fields__}
    row["settings"] = dict(chat.settings)
    return row | {"owner": owner, "folded": fold(chat.title), "last": last}


def no_message(number: str, param: str) -> InvalidRequest:
    """What is said where a chat lacks a message that was named."""
    return InvalidRequest(f"There is no message '{number}' in this chat.", param=param)
