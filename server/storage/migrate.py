"""The tables brought to the newest form, in a thread, by one server at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from filelock import FileLock
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK_WAIT_S: Final = 60.0
# Any number, as long as nothing else in the same PostgreSQL database uses it.
_LOCK_NUMBER: Final = 6_743_201_551


def migrate(url: str) -> None:
    """Bring the tables to the newest form; blocks, so call it in a thread.

    Args:
        url: SQLAlchemy's, with an asynchronous driver.

    Raises:
        OSError: The folder cannot be written, or another server holds the lock for a minute.
        sqlalchemy.exc.SQLAlchemyError, alembic.util.CommandError: The database refuses.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _one_at_a_time(sqlite_file(url)):
        asyncio.run(_upgrade(url))


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for other databases."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def _one_at_a_time(file: Path | None) -> contextlib.AbstractContextManager[object]:
    if file is None:
        return contextlib.nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    # What people said to models is nobody else's; SQLite gives its other files the same mode.
    file.touch(mode=0o600)
    return FileLock(f"{file}.lock", timeout=_LOCK_WAIT_S)


async def _upgrade(url: str) -> None:
    # An engine of its own: connections belong to the event loop that they were made on.
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


def _run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    config = Config()
    # ConfigParser's own sign.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
