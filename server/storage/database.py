"""One database: opened when it is first needed, its failures told in plain words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson
import structlog
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from server.errors import CorralError, StorageFailed
from server.storage.migrate import migrate, sqlite_file

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

log = structlog.get_logger(__name__)

# How long a lock of another process is waited for.
_BUSY_S: Final = 5.0
# A database that could not be opened is left alone for so long.
_RETRY_S: Final = 2.0
_FAILURES: Final = (SQLAlchemyError, CommandError, OSError, ImportError)
_GO_ON: Final = "Requests that keep nothing go on: send 'store': false."
_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Database:
    """Transactions on one database.

    Args:
        url: SQLAlchemy's URL of an SQLite file or of a PostgreSQL database; None: there is none.
    """

    def __init__(self, url: str | None) -> None:
        self._url = _with_driver(url) if url else None
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        self._retry_at = 0.0
        self._failure = ""
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def exists(self) -> bool:
        """Whether there is one, be it usable now or not."""
        return self._url is not None

    async def open(self) -> None:
        """Bring the tables to the newest form, once.

        Raises:
            StorageFailed: It cannot be opened; tried again by the first call two seconds later.
        """
        async with self._opening:
            if self._engine is not None:
                return
            if self._url is None:
                raise StorageFailed(
                    "This server has no database and keeps nothing.", "Send 'store': false."
                )
            if time.monotonic() < self._retry_at:
                raise StorageFailed(self._failure, _GO_ON)
            try:
                await asyncio.to_thread(migrate, self._url)
                self._engine = _engine(self._url)
            except _FAILURES as error:
                self._retry_at = time.monotonic() + _RETRY_S
                failed = _told(error)
                self._failure = failed.what
                log.warning("the database cannot be opened", error=_cause(error))
                raise failed from error

    async def read(self, work: Work[T]) -> T:
        """``work``'s result in a transaction that only reads.

        Raises:
            StorageFailed: The database cannot be used now.
        """
        return await self._shielded(work, writes=False)

    async def write(self, work: Work[T]) -> T:
        """``work``'s result in a transaction that is on disk when this returns.

        Raises:
            StorageFailed: The database cannot be used now; nothing was changed.
        """
        return await self._shielded(work, writes=True)

    async def close(self) -> None:
        """Finish what runs and let the files go."""
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def _shielded(self, work: Work[T], *, writes: bool) -> T:
        # A client that leaves must not tear a connection out of the middle of a transaction.
        task = asyncio.create_task(self._transact(work, writes=writes))
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

    async def _transact(self, work: Work[T], *, writes: bool) -> T:
        await self.open()
        assert self._engine is not None
        engine = self._engine.execution_options(corral_writes=writes)
        try:
            async with engine.begin() as connection:
                return await work(connection)
        except CorralError:
            raise
        except _FAILURES as error:
            log.warning("the database failed", error=_cause(error))
            raise _told(error) from error


def _with_driver(url: str) -> str:
    """``url`` with the asynchronous driver that belongs to its database."""
    scheme, separator, rest = url.partition("://")
    backend = "postgresql" if scheme == "postgres" else scheme
    return _DRIVERS.get(backend, backend) + separator + rest


def _engine(url: str) -> AsyncEngine:
    sqlite = sqlite_file(url) is not None
    engine = create_async_engine(
        url,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"timeout": _BUSY_S},
        # A connection that a restart of PostgreSQL cut is made anew.
        pool_pre_ping=not sqlite,
    )
    if sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Transactions are begun below, not by the driver, which begins them too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        # What was answered outlives a power cut too; a commit waits for the disk, some milliseconds
        # beside the seconds that an answer takes.
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A reader that becomes a writer cannot wait for another writer: it fails at once.
    writes = connection.get_execution_options().get("corral_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _told(error: Exception) -> StorageFailed:
    """The failure in words for the caller, who is told neither paths nor statements."""
    cause = _cause(error)
    lowered = cause.lower()
    if "disk is full" in lowered or "no space left" in lowered:
        why = "its disk is full"
    elif "locked" in lowered or "could not be acquired" in lowered:
        why = "it is locked by another process"
    elif isinstance(error, (ArgumentError, NoSuchModuleError, ImportError)):
        why = "its URL or driver is wrong"
    elif "not a database" in lowered or "malformed" in lowered:
        why = "its file is damaged"
    elif "can't locate revision" in lowered:
        why = "it was made by a newer Corral"
    else:
        why = "it cannot be read or written; the server's log says why"
    return StorageFailed(f"The server's database cannot be used now: {why}.", _GO_ON)


def _cause(error: Exception) -> str:
    return str(error.orig) if isinstance(error, DBAPIError) and error.orig else str(error)
