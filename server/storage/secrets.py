"""What the servers of one database sign with: made once, and the same for all of them."""

from __future__ import annotations

import secrets as random

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.storage.database import Database
from server.storage.tables import secrets

_BYTES = 32
# In SQLite's words and in PostgreSQL's: of two servers that make one at once, the first wins.
_MAKE = text("INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")


class Secrets:
    """The secrets of a database. Every method may raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> bytes:
        """The secret of this name, 32 bytes; the first call ever makes it."""

        async def look(connection: AsyncConnection) -> str | None:
            found = select(secrets.c.value).where(secrets.c.name == name)
            return (await connection.execute(found)).scalar_one_or_none()

        async def make(connection: AsyncConnection) -> str | None:
            new = {"name": name, "value": random.token_hex(_BYTES)}
            await connection.execute(_MAKE, new)
            return await look(connection)

        known = await self._database.read(look) or await self._database.write(make)
        assert known is not None
        return bytes.fromhex(known)
