"""The same storage in PostgreSQL, where one is installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from server.errors import InvalidRequest, ObjectNotFound
from server.storage import Storage
from server.storage.conversations import Conversation
from server.storage.items import PageQuery
from server.storage.responses import History
from server.storage.tables import metadata
from tests.unit.storage.support_objects import item, record
from tests.unit.storage.support_postgres import a_cluster, usable

pytestmark = pytest.mark.skipif(not usable(), reason="needs PostgreSQL")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with a_cluster() as url:
        yield url


@pytest.fixture
async def storage(url: str) -> AsyncGenerator[Storage, None]:
    storage = Storage(url)
    yield storage
    await storage.database.close()


async def test_two_servers_begin_at_once(url: str, storage: Storage) -> None:
    other = Storage(url)
    await asyncio.gather(storage.database.open(), other.database.open())
    await other.database.close()

    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert await storage.database.read(lambda connection: connection.run_sync(differences)) == []


async def test_responses(storage: Storage) -> None:
    first = record("r1", inputs=("a", "b"), output=("c",))
    first.body["output"] = [item("c", "\x00 é 😀")]
    await storage.responses.add(first)
    await storage.responses.add(record("r2", previous="r1", status="queued", inputs=("d",)))
    assert await storage.responses.get("", "r1") == first.body
    assert await storage.responses.beat({"r1", "r2"}) == {"r1"}
    done = record("r2", previous="r1", inputs=("d",), output=("e",))
    assert await storage.responses.finish(done) is True
    assert await storage.responses.end("", "r2", {"status": "cancelled"}) is False
    history = await storage.responses.history("", "r2")
    items = [item("a"), item("b"), item("c", "\x00 é 😀"), item("d"), item("e")]
    assert history == History(items, "completed", None)
    page = await storage.responses.inputs("", "r1", PageQuery(limit=1))
    assert ([one["id"] for one in page.items], page.has_more) == (["b"], True)
    assert await storage.responses.find_items("", ["a", "x"]) == {"a": item("a")}
    await storage.responses.delete("", "r1")
    with pytest.raises(ObjectNotFound):
        await storage.responses.get("", "r1")


async def test_an_id_that_no_text_can_hold(storage: Storage) -> None:
    for number in ("r\0", "\0"):
        with pytest.raises(ObjectNotFound, match="Response with id"):
            await storage.responses.get("", number)
        with pytest.raises(ObjectNotFound, match="Response with id"):
            await storage.responses.history("", number)
        with pytest.raises(ObjectNotFound, match="Conversation with id"):
            await storage.conversations.append("", number, [item("a")])
    assert await storage.responses.find_items("", ["a\0"]) == {}
    await storage.conversations.create("", Conversation("c2", 7, {}), [item("a")])
    with pytest.raises(InvalidRequest, match="There is no item"):
        await storage.conversations.page("", "c2", PageQuery(after="a\0"))
    with pytest.raises(ObjectNotFound, match="Item with id"):
        await storage.conversations.delete_item("", "c2", "a\0")


async def test_many_appends_at_once(storage: Storage) -> None:
    await storage.conversations.create("", Conversation("c1", 7, {"a": "b"}), [])
    await asyncio.gather(
        *(storage.conversations.append("", "c1", [item(f"i{n}")]) for n in range(20))
    )
    ids = {one["id"] for one in await storage.conversations.items("", "c1")}
    assert ids == {f"i{n}" for n in range(20)}
    await storage.conversations.delete("", "c1")
