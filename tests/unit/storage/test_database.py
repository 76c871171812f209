"""The database itself: how it is made, and how it fails."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from server.errors import StorageFailed
from server.storage import Storage
from server.storage.conversations import Conversation
from server.storage.migrate import _MIGRATIONS, migrate, sqlite_file
from server.storage.tables import metadata
from tests.unit.storage.support_objects import record

GO_ON = " Requests that keep nothing go on: send 'store': false."


def file_of(url: str) -> Path:
    found = sqlite_file(url)
    assert found is not None
    return found


def failure(why: str) -> str:
    return f"The server's database cannot be used now: {why}.{GO_ON}"


async def refused(storage: Storage) -> str:
    with pytest.raises(StorageFailed) as error:
        await storage.responses.add(record("r1"))
    return str(error.value)


async def test_the_migrations_make_the_tables(url: str, storage: Storage) -> None:
    await storage.database.open()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == "0003"
        assert compare_metadata(context, metadata) == []
        keys = connection.execute(text("PRAGMA foreign_key_list(response_items)")).all()
        assert [key[2:7] for key in keys] == [
            ("responses", "response_id", "id", "NO ACTION", "CASCADE")
        ]
    engine.dispose()


def test_a_database_of_an_older_corral_gets_the_tables() -> None:
    """And loses them again on the way back, with what else there is left alone."""
    steps = {
        "0001": {"responses", "response_items", "conversations", "conversation_items"},
        "0002": {"added_entries"},
        "0003": {"chats", "chat_messages", "chat_presets", "secrets"},
    }
    engine = create_engine("sqlite://")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        tables = {"alembic_version"}
        for revision, new in steps.items():
            command.upgrade(config, revision)
            tables |= new
            assert set(inspect(connection).get_table_names()) == tables
        assert tables == metadata.tables.keys() | {"alembic_version"}
        for below, lost in zip(["0002", "0001"], [*steps.values()][:0:-1], strict=True):
            command.downgrade(config, below)
            tables -= lost
            assert set(inspect(connection).get_table_names()) == tables
    engine.dispose()


async def test_migrations_can_be_run_again(url: str, storage: Storage) -> None:
    await storage.responses.add(record("r1"))
    await asyncio.to_thread(migrate, url.replace("sqlite:", "sqlite+aiosqlite:"))
    assert (await storage.responses.get("", "r1"))["id"] == "r1"


async def test_how_sqlite_is_set(url: str, storage: Storage) -> None:
    async def look(connection: Any) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [(await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in names]

    assert await storage.database.read(look) == ["wal", 2, 1, 5000]
    assert file_of(url).stat().st_mode & 0o777 == 0o600


async def test_no_database() -> None:
    assert await refused(Storage(None)) == (
        "This server has no database and keeps nothing. Send 'store': false."
    )


async def test_a_file_that_is_no_database(url: str, storage: Storage) -> None:
    file = file_of(url)
    file.parent.mkdir()
    file.write_bytes(b"no database at all " * 100)
    assert await refused(storage) == failure("its file is damaged")
    # Again at once, without another look at it; later it is tried anew.
    assert await refused(storage) == failure("its file is damaged")
    file.unlink()
    storage.database._retry_at = 0
    await storage.responses.add(record("r1"))


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert await refused(Storage(f"sqlite:///{tmp_path}/data/corral.db")) == failure(
        "it cannot be read or written; the server's log says why"
    )


@pytest.mark.parametrize("url", ["nothing", "mysql+no://x/y"])
async def test_a_wrong_url(url: str) -> None:
    assert await refused(Storage(url)) == failure("its URL or driver is wrong")


async def test_postgresql_that_does_not_answer() -> None:
    # Its driver comes with the extra `postgres`.
    reason = (
        "it cannot be read or written; the server's log says why"
        if find_spec("asyncpg")
        else "its URL or driver is wrong"
    )
    assert await refused(Storage("postgresql://127.0.0.1:1/x")) == failure(reason)


async def test_a_newer_database(url: str, storage: Storage) -> None:
    await storage.database.open()
    with contextlib.closing(sqlite3.connect(file_of(url))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert await refused(Storage(url)) == failure("it was made by a newer Corral")


async def test_a_full_disk(url: str, storage: Storage) -> None:
    await storage.responses.add(record("r1"))

    async def limit(connection: Any) -> None:
        await connection.execute(text("PRAGMA max_page_count = 1"))

    await storage.database.read(limit)
    big = record("r2")
    big.body["output"] = [{"id": "a", "text": "x" * 1_000_000}]
    with pytest.raises(StorageFailed) as error:
        await storage.responses.add(big)
    assert str(error.value) == failure("its disk is full")
    # What is there can still be read, and nothing was written in part.
    assert (await storage.responses.get("", "r1"))["id"] == "r1"
    assert await storage.responses.find_items("", ["a"]) == {}


async def test_a_locked_database(
    url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.storage.database._BUSY_S", 0.05)
    await storage.database.open()
    with contextlib.closing(sqlite3.connect(file_of(url), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert await refused(storage) == failure("it is locked by another process")
        connection.execute("ROLLBACK")
    await storage.responses.add(record("r1"))


async def test_who_gives_up_waiting_harms_nothing(storage: Storage) -> None:
    for n in range(10):
        call = storage.conversations.create("", Conversation(f"c{n}", 1, {}), [])
        task = asyncio.create_task(call)
        await asyncio.sleep(0.001 * n)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await storage.database.close()
    assert (await storage.conversations.get("", "c9")).id == "c9"
    await storage.database.close()
