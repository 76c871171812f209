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
from server.storage.chat_messages import PathQuery
from server.storage.chats import ChatQuery
from server.storage.conversations import Conversation
from server.storage.items import PageQuery
from server.storage.responses import History
from server.storage.tables import metadata
from tests.unit.storage.support_chats import a_chat, a_message, put_chains
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


async def test_chats(storage: Storage) -> None:
    chats, messages = storage.chats, storage.chat_messages
    await put_chains(storage, "me", [f"c{n}" for n in range(5)], 3)
    await chats.change("me", "c1", {"pinned": True, "title": "Öfen 100%", "settings": {"a": 1}})
    first = await chats.page("me", ChatQuery(limit=3))
    assert [chat.id for chat in first.chats] == ["c1", "c4", "c3"]
    rest = await chats.page("me", ChatQuery(limit=3, after=first.next))
    assert ([chat.id for chat in rest.chats], rest.next) == (["c2", "c0"], None)
    for query, found in {"öFEN": ["c1"], "0%": ["c1"], "天": ["c0"], "0_": [], "x": []}.items():
        if query == "天":
            fields = {"content": "天\x00気 😀"}
            grown = await messages.change("me", "c0", "c0.2", fields, fields["content"])
            assert grown.body == fields
        assert [one.id for one in (await chats.page("me", ChatQuery(text=query))).chats] == found
    with pytest.raises(ObjectNotFound):
        await chats.get("you", "c1")


async def test_messages_of_chats(storage: Storage) -> None:
    messages = storage.chat_messages
    await storage.chats.create("me", a_chat("tree"))
    await messages.append("me", "tree", a_message("q", title="Title"))
    await asyncio.gather(
        *(messages.append("me", "tree", a_message(f"a{n}", "q")) for n in range(20))
    )
    chat = await storage.chats.get("me", "tree")
    assert (chat.title, chat.messages) == ("Title", 21)
    page = await messages.path("me", "tree", PathQuery(leaf="q"))
    assert [message.id for message in page.messages] == ["q", chat.leaf]
    assert sorted(page.messages[1].siblings) == sorted(f"a{n}" for n in range(20))
    left = await messages.delete("me", "tree", page.messages[1].id)
    assert left == page.messages[1].siblings[-2]
    assert await messages.delete("me", "tree", "q") is None
    assert (await messages.path("me", "tree", PathQuery())).messages == []
    await put_chains(storage, "me", ["long"], 2000)
    page = await messages.path("me", "long", PathQuery(limit=2, before="long.1000"))
    assert [message.id for message in page.messages] == ["long.998", "long.999"]
    assert await messages.delete("me", "long", "long.1") == "long.0"


async def test_chats_in_parts_presets_and_secrets(url: str, storage: Storage) -> None:
    await put_chains(storage, "you", ["p", "q"], 600)
    order = [chat.id async for page in storage.chat_transfer.chats("you") for chat in page]
    assert order == ["q", "p"]
    parts = [part async for part in storage.chat_transfer.messages("you", order)]
    assert [len(part) for part in parts] == [500, 500, 200]
    assert [entry.id for part in parts for entry in part] == [
        f"{chat}.{n}" for chat in order for n in range(600)
    ]
    branch = [entry.id async for part in storage.chat_transfer.branch("you", "p") for entry in part]
    assert branch == [f"p.{n}" for n in range(600)]
    for presets in ([{"name": "a\x00"}], [{"name": "b"}]):
        await asyncio.gather(*(storage.presets.put("you", presets) for _ in range(3)))
        assert await storage.presets.all("you") == presets
    other = Storage(url)
    found = await asyncio.gather(
        *(one.secrets.get("a") for one in (storage, other) for _ in range(5))
    )
    await other.database.close()
    assert len(set(found)) == 1
