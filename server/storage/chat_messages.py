"""The messages of the chat page's chats: trees whose branches are other questions and answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server.errors import ObjectNotFound
from server.storage import chat_tree
from server.storage.chat_tree import batches
from server.storage.chats import find_chat, no_message, update_chat
from server.storage.database import Database
from server.storage.search import fold
from server.storage.tables import chat_messages as table
from server.storage.tables import chats

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to be kept.

    Args:
        parent: Id of the message that it follows; None: it begins the chat.
        body: JSON; not looked into.
        text: What a search finds it by.
        title: What the chat is called from now on if it has no title yet, or "".
    """

    id: str
    parent: str | None
    created: float
    body: Body
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that is kept, with the ids of all that follow its parent, the oldest first."""

    id: str
    parent: str | None
    created: float
    body: Body
    siblings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathQuery:
    """Which part of a branch is wanted.

    Args:
        leaf: A message of the branch; None: the chat's own leaf. Where messages follow it, the
            branch goes on to the newest one below it.
        limit: Most messages of the page.
        before: The page ends before this message; then ``leaf`` does not matter.
    """

    leaf: str | None = None
    limit: int = 100
    before: str | None = None


@dataclass(frozen=True, slots=True)
class PathPage:
    """Some messages of a branch, the oldest first, and where the page before ends.

    None: this is the branch's beginning.
    """

    messages: Sequence[Message]
    before: str | None


class ChatMessages:
    """The messages of a database. Every method may raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, owner: str, chat: str, new: NewMessage) -> Message:
        """Keep a message, which becomes the chat's leaf.

        Raises:
            ObjectNotFound: The owner has no such chat.
            InvalidRequest: The chat has no message that is to be the parent.
        """

        async def work(connection: AsyncConnection) -> Message:
            found = await find_chat(connection, owner, chat, lock=True)
            if new.parent is not None and not await _exists(connection, chat, new.parent):
                raise no_message(new.parent, "parent")
            last = select(chats.c.last).where(chats.c.id == chat)
            position = (await connection.execute(last)).scalar_one() + 1
            await connection.execute(insert(table).values(message_row(chat, new, position)))
            titled = {"title": new.title} if new.title and not found.title else {}
            await update_chat(
                connection,
                chat,
                leaf=new.id,
                updated=new.created,
                messages=found.messages + 1,
                last=position,
                **titled,
            )
            return await _get_one(connection, chat, new.id)

        return await self._database.write(work)

    async def change(
        self, owner: str, chat: str, number: str, fields: Body, text: str | None = None
    ) -> Message:
        """Replace fields of a message's body.

        Args:
            text: What a search finds it by from now on; None: as before.

        Raises:
            ObjectNotFound: The owner has no such chat, or it has no such message.
        """

        async def work(connection: AsyncConnection) -> Message:
            await find_chat(connection, owner, chat, lock=True)
            found = await _get_one(connection, chat, number)
            body = {**found.body, **fields}
            changed: dict[str, Any] = {"body": body, "size": _size(body)}
            if text is not None:
                changed["folded"] = fold(text)
            await connection.execute(update(table).where(table.c.id == number).values(changed))
            await update_chat(connection, chat, updated=time.time())
            return await _get_one(connection, chat, number)

        return await self._database.write(work)

    async def delete(self, owner: str, chat: str, number: str) -> str | None:
        """Forget a message and all that follow it; returns the chat's leaf.

        A leaf that is gone moves to the message before, or to the newest one that still follows
        that: what is left can be seen.

        Raises:
            ObjectNotFound: The owner has no such chat, or it has no such message.
        """

        async def work(connection: AsyncConnection) -> str | None:
            found = await find_chat(connection, owner, chat, lock=True)
            parent = (await _get_one(connection, chat, number)).parent
            gone = select(chat_tree.below(chat, number).c.id)
            await connection.execute(delete(table).where(table.c.id.in_(gone)))
            leaf = found.leaf
            if leaf is not None and not await _exists(connection, chat, leaf):
                leaf = (
                    await chat_tree.newest(connection, chat)
                    if parent is None
                    else await chat_tree.tip(connection, chat, parent)
                )
            count = select(func.count()).where(table.c.chat_id == chat)
            left = (await connection.execute(count)).scalar_one()
            await update_chat(connection, chat, leaf=leaf, messages=left, updated=time.time())
            return leaf

        return await self._database.write(work)

    async def path(self, owner: str, chat: str, query: PathQuery) -> PathPage:
        """Some messages of a branch: the newest, or those before one.

        A page is shorter than its limit where its messages are long.

        Raises:
            ObjectNotFound: The owner has no such chat.
            InvalidRequest: The chat has no message that the query names.
        """

        async def work(connection: AsyncConnection) -> PathPage:
            found = await find_chat(connection, owner, chat)
            start = await _start(connection, chat, found.leaf, query)
            if start is None:
                return PathPage([], None)
            steps = await chat_tree.path_up(connection, chat, start, query.limit + 1)
            taken = next(batches(steps[: query.limit]), [])
            messages = await _get(connection, chat, [step.id for step in reversed(taken)])
            return PathPage(messages, messages[0].id if len(taken) < len(steps) else None)

        return await self._database.read(work)


async def _start(
    connection: AsyncConnection, chat: str, leaf: str | None, query: PathQuery
) -> str | None:
    """The newest message of a page; None: there is none."""
    if query.before is not None:
        wanted = select(table.c.parent).where(table.c.chat_id == chat, table.c.id == query.before)
        row = (await connection.execute(wanted)).one_or_none()
        if row is None:
            raise no_message(query.before, "before")
        parent: str | None = row.parent
        return parent
    if query.leaf is None:
        return leaf
    start = await chat_tree.tip(connection, chat, query.leaf)
    if start is None:
        raise no_message(query.leaf, "leaf")
    return start


async def _exists(connection: AsyncConnection, chat: str, number: str) -> bool:
    wanted = select(table.c.id).where(table.c.chat_id == chat, table.c.id == number)
    return (await connection.execute(wanted)).one_or_none() is not None


async def _get_one(connection: AsyncConnection, chat: str, number: str) -> Message:
    found = await _get(connection, chat, [number])
    if not found:
        raise ObjectNotFound("Message", number)
    return found[0]


async def _get(connection: AsyncConnection, chat: str, numbers: Sequence[str]) -> list[Message]:
    """Those of these messages that the chat has, in the same order."""
    wanted = select(table.c.id, table.c.parent, table.c.created, table.c.body)
    wanted = wanted.where(table.c.chat_id == chat, table.c.id.in_(numbers))
    rows = {row.id: row for row in (await connection.execute(wanted)).all()}
    siblings = await chat_tree.children(connection, chat, {row.parent for row in rows.values()})
    return [
        Message(**rows[number]._mapping, siblings=siblings[rows[number].parent])
        for number in numbers
        if number in rows
    ]


def message_row(chat: str, message: NewMessage, position: int) -> dict[str, Any]:
    """A new message as a row."""
    return {
        "id": message.id,
        "chat_id": chat,
        "position": position,
        "parent": message.parent,
        "created": message.created,
        "size": _size(message.body),
        "folded": fold(message.text),
        "body": dict(message.body),
    }


def _size(body: Body) -> int:
    return len(orjson.dumps(body))
