"""Conversations: labelled lists of items that grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server.errors import InvalidRequest, ObjectNotFound
from server.storage.database import Database
from server.storage.items import Item, Page, PageQuery, fetch_page
from server.storage.tables import conversation_items, conversations


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its items."""

    id: str
    created_at: int
    metadata: Mapping[str, str]


class Conversations:
    """The conversations of a database. Every method may raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: str, new: Conversation, items: Sequence[Item]) -> None:
        """Keep a new conversation with its first items."""

        async def work(connection: AsyncConnection) -> None:
            row = {"id": new.id, "owner": owner, "created_at": new.created_at}
            await connection.execute(insert(conversations).values(**row, labels=dict(new.metadata)))
            await append_items(connection, owner, new.id, items)

        await self._database.write(work)

    async def get(self, owner: str, number: str) -> Conversation:
        """One conversation.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> Conversation:
            return await _get(connection, owner, number)

        return await self._database.read(work)

    async def relabel(self, owner: str, number: str, metadata: Mapping[str, str]) -> Conversation:
        """Replace the metadata.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> Conversation:
            found = await _get(connection, owner, number)
            where = update(conversations).where(conversations.c.id == number)
            await connection.execute(where.values(labels=dict(metadata)))
            return Conversation(number, found.created_at, metadata)

        return await self._database.write(work)

    async def delete(self, owner: str, number: str) -> None:
        """Forget a conversation and its items.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> None:
            await _get(connection, owner, number)
            await connection.execute(delete(conversations).where(conversations.c.id == number))

        await self._database.write(work)

    async def append(self, owner: str, number: str, items: Sequence[Item]) -> None:
        """Add items at the end.

        Raises:
            ObjectNotFound: The owner has none of this id.
            InvalidRequest: An item is there already.
        """

        async def work(connection: AsyncConnection) -> None:
            await append_items(connection, owner, number, items)

        await self._database.write(work)

    async def page(self, owner: str, number: str, query: PageQuery) -> Page:
        """Some of its items.

        Raises:
            ObjectNotFound: The owner has none of this id.
            InvalidRequest: There is no item ``after``.
        """

        async def work(connection: AsyncConnection) -> Page:
            await _get(connection, owner, number)
            of = conversation_items.c.conversation_id == number
            return await fetch_page(connection, conversation_items, of, query)

        return await self._database.read(work)

    async def items(self, owner: str, number: str) -> list[Item]:
        """All its items, oldest first.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> list[Item]:
            await _get(connection, owner, number)
            table = conversation_items
            of = select(table.c.item).where(table.c.conversation_id == number)
            return list((await connection.execute(of.order_by(table.c.position))).scalars())

        return await self._database.read(work)

    async def item(self, owner: str, number: str, item_id: str) -> Item:
        """One item.

        Raises:
            ObjectNotFound: The owner has no such conversation, or it has no such item.
        """

        async def work(connection: AsyncConnection) -> Item:
            await _get(connection, owner, number)
            found = select(conversation_items.c.item).where(_is_item(number, item_id))
            item: Item | None = (await connection.execute(found)).scalar_one_or_none()
            if item is None:
                raise ObjectNotFound("Item", item_id)
            return item

        return await self._database.read(work)

    async def delete_item(self, owner: str, number: str, item_id: str) -> Conversation:
        """Forget one item.

        Raises:
            ObjectNotFound: The owner has no such conversation, or it has no such item.
        """

        async def work(connection: AsyncConnection) -> Conversation:
            found = await _get(connection, owner, number)
            gone = await connection.execute(
                delete(conversation_items).where(_is_item(number, item_id))
            )
            if not gone.rowcount:
                raise ObjectNotFound("Item", item_id)
            return found

        return await self._database.write(work)


async def append_items(
    connection: AsyncConnection, owner: str, number: str, items: Sequence[Item]
) -> None:
    """Add items at the end of a conversation, within a transaction that writes.

    Raises:
        ObjectNotFound: The owner has no conversation of this id.
        InvalidRequest: An item is there already.
    """
    # Locked where the database has row locks, so that positions are given out one after the other.
    await _get(connection, owner, number, lock=True)
    if not items:
        return
    table = conversation_items
    of = table.c.conversation_id == number
    ids = [item["id"] for item in items]
    known = select(table.c.item_id).where(of, table.c.item_id.in_(ids)).limit(1)
    twice = (await connection.execute(known)).scalar_one_or_none()
    if twice is None:
        twice = next((one for at, one in enumerate(ids) if one in ids[:at]), None)
    if twice is not None:
        raise InvalidRequest(
            f"The conversation already has an item '{twice}'. Leave it out, or send it without "
            "its id.",
            param="items",
        )
    last = await connection.execute(select(func.max(table.c.position)).where(of))
    first = (last.scalar_one() or 0) + 1
    rows = [
        {
            "conversation_id": number,
            "position": position,
            "owner": owner,
            "item_id": item["id"],
            "item": item,
        }
        for position, item in enumerate(items, first)
    ]
    await connection.execute(insert(table), rows)


async def _get(
    connection: AsyncConnection, owner: str, number: str, *, lock: bool = False
) -> Conversation:
    table = conversations
    wanted = select(table.c.created_at, table.c.labels).where(
        table.c.id == number, table.c.owner == owner
    )
    row: Any = (
        await connection.execute(wanted.with_for_update() if lock else wanted)
    ).one_or_none()
    if row is None:
        raise ObjectNotFound("Conversation", number)
    return Conversation(number, row.created_at, row.labels)


def _is_item(number: str, item_id: str) -> Any:
    table = conversation_items
    return and_(table.c.conversation_id == number, table.c.item_id == item_id)
