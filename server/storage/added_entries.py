"""Registry entries that were added while a server ran, each as it was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from server.storage.database import Database
from server.storage.tables import added_entries as table


@dataclass(frozen=True, slots=True)
class AddedEntry:
    """One entry.

    Args:
        id: The model's.
        created_at: Unix time at which it was added.
        entry: The whole entry, its id among it.
    """

    id: str
    created_at: int
    entry: Mapping[str, Any]


class AddedEntries:
    """The added entries of a database. Every method may raise `StorageFailed`.

    In every method ``registry`` names the registry file that the entries stand behind.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def kept(self) -> bool:
        """Whether there is a database at all."""
        return self._database.exists

    async def all(self, registry: str) -> Sequence[AddedEntry]:
        """Every entry, in the order in which they were first added."""

        async def work(connection: AsyncConnection) -> Sequence[AddedEntry]:
            found = (
                select(table.c.id, table.c.created_at, table.c.entry)
                .where(table.c.registry == registry)
                .order_by(table.c.position, table.c.id)
            )
            rows = (await connection.execute(found)).all()
            return [
                AddedEntry(row.id, row.created_at, row.entry if isinstance(row.entry, dict) else {})
                for row in rows
            ]

        return await self._database.read(work)

    async def put(self, registry: str, new: AddedEntry) -> None:
        """Keep an entry, in the place of the one with its id if there is one."""

        async def work(connection: AsyncConnection) -> None:
            of = table.c.registry == registry
            known = select(table.c.position).where(of, table.c.id == new.id)
            position = (await connection.execute(known)).scalar_one_or_none()
            if position is None:
                last = await connection.execute(select(func.max(table.c.position)).where(of))
                position = (last.scalar_one() or 0) + 1
            await connection.execute(delete(table).where(of, table.c.id == new.id))
            row = {"position": position, "created_at": new.created_at, "entry": dict(new.entry)}
            await connection.execute(insert(table).values(registry=registry, id=new.id, **row))

        await self._database.write(work)

    async def remove(self, registry: str, number: str) -> None:
        """Forget an entry if it is there."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                delete(table).where(table.c.registry == registry, table.c.id == number)
            )

        await self._database.write(work)
