"""Settings that somebody gave names, to be used in any chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.storage.database import Database
from server.storage.tables import chat_presets as table

Preset = dict[str, Any]

# In SQLite's words and in PostgreSQL's: of two that are put at once, the second stays.
_PUT = text(
    "INSERT INTO chat_presets (owner, presets) VALUES (:owner, :presets) "
    "ON CONFLICT (owner) DO UPDATE SET presets = excluded.presets"
).bindparams(bindparam("presets", type_=JSON))


class Presets:
    """The presets of a database. Every method may raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, owner: str) -> list[Preset]:
        """Every preset of an owner, in the order in which they were put."""

        async def work(connection: AsyncConnection) -> list[Preset]:
            found = select(table.c.presets).where(table.c.owner == owner)
            return (await connection.execute(found)).scalar_one_or_none() or []

        return await self._database.read(work)

    async def put(self, owner: str, presets: Sequence[Preset]) -> None:
        """Keep these in place of all there were."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_PUT, {"owner": owner, "presets": list(presets)})

        await self._database.write(work)
