"""Whole chats read and written in parts: for export and import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from server.storage import chat_tree
from server.storage.chat_messages import Body, NewMessage, message_row
from server.storage.chat_tree import Step, batches
from server.storage.chats import COLUMNS, ORDER, Chat, chat_row, find_chat
from server.storage.database import Database
from server.storage.tables import chat_messages, chats

# Rows that are made for one statement: between two of them others have their turn.
_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """A message without its siblings, and whose it is."""

    chat_id: str
    id: str
    parent: str | None
    created: float
    body: Body


class ChatTransfer:
    """Chats with all their messages. Every method may raise `StorageFailed`.

    What is read in parts is read in several transactions: a message that is deleted meanwhile is
    left out, with all that followed it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chats(self, owner: str) -> AsyncIterator[list[Chat]]:
        """All chats of an owner in parts, in the order of their list."""

        async def look(connection: AsyncConnection) -> list[str]:
            found = select(chats.c.id).where(chats.c.owner == owner).order_by(*ORDER)
            return [*(await connection.execute(found)).scalars()]

        # Ids first, for the order changes while this goes on.
        known = await self._database.read(look)
        for begin in range(0, len(known), _ROWS):
            wanted = known[begin : begin + _ROWS]

            async def work(
                connection: AsyncConnection, wanted: Sequence[str] = wanted
            ) -> dict[str, Chat]:
                found = select(*COLUMNS).where(chats.c.id.in_(wanted), chats.c.owner == owner)
                rows = (await connection.execute(found)).all()
                return {row.id: Chat(**row._mapping) for row in rows}

            found = await self._database.read(work)
            yield [found[number] for number in wanted if number in found]

    async def messages(self, owner: str, wanted: Sequence[str]) -> AsyncIterator[list[Entry]]:
        """All messages of some chats in parts: chat by chat, those before others first.

        Args:
            wanted: Ids of chats; what the owner does not have is passed over.
        """

        async def look(connection: AsyncConnection) -> list[Step]:
            table = chat_messages
            mine = chats.c.owner == owner, chats.c.id.in_(wanted)
            found = select(table.c.chat_id, table.c.id, table.c.size)
            found = found.join_from(table, chats).where(*mine)
            found = found.order_by(table.c.chat_id, table.c.position)
            rows = (await connection.execute(found)).all()
            of = {chat: list(group) for chat, group in groupby(rows, lambda row: row.chat_id)}
            return [Step(row.id, row.size) for chat in wanted for row in of.get(chat, ())]

        async for part in self._read(await self._database.read(look)):
            yield part

    async def branch(self, owner: str, number: str) -> AsyncIterator[list[Entry]]:
        """The messages of the branch that a chat shows in parts, the oldest first.

        Raises:
            ObjectNotFound: The owner has no such chat.
        """

        async def look(connection: AsyncConnection) -> list[Step]:
            leaf = (await find_chat(connection, owner, number)).leaf
            if leaf is None:
                return []
            return [*reversed(await chat_tree.path_up(connection, number, leaf))]

        async for part in self._read(await self._database.read(look)):
            yield part

    async def put(self, owner: str, new: Sequence[tuple[Chat, Sequence[NewMessage]]]) -> None:
        """Keep chats with all their messages, or none of them.

        Args:
            new: Each with its messages, each behind its parent.
        """

        async def work(connection: AsyncConnection) -> None:
            for chat, messages in new:
                row = chat_row(owner, chat, last=len(messages))
                await connection.execute(insert(chats).values(row))
                for begin in range(0, len(messages), _ROWS):
                    part = enumerate(messages[begin : begin + _ROWS], begin + 1)
                    rows = [message_row(chat.id, message, at) for at, message in part]
                    await connection.execute(insert(chat_messages), rows)

        await self._database.write(work)

    async def _read(self, steps: Sequence[Step]) -> AsyncIterator[list[Entry]]:
        for part in batches(steps):
            ids = [step.id for step in part]

            async def work(
                connection: AsyncConnection, ids: Sequence[str] = ids
            ) -> dict[str, Entry]:
                table = chat_messages
                found = select(*(table.c[name] for name in Entry.__dataclass_fields__))
                rows: Any = await connection.execute(found.where(table.c.id.in_(ids)))
                return {row.id: Entry(*row) for row in rows}

            found = await self._database.read(work)
            yield [found[number] for number in ids if number in found]
