"""Stored conversations."""

from __future__ import annotations

import asyncio

import pytest

from server.errors import InvalidRequest, ObjectNotFound
from server.storage import Storage
from server.storage.conversations import Conversation
from server.storage.items import Page, PageQuery
from tests.unit.storage.support_objects import item


async def test_a_conversation_and_its_items(storage: Storage) -> None:
    new = Conversation("c1", 7, {"topic": "x"})
    await storage.conversations.create("", new, [item("a"), item("b")])
    await storage.conversations.append("", "c1", [item("c")])
    await storage.conversations.append("", "c1", [])
    assert await storage.conversations.get("", "c1") == new
    assert await storage.conversations.items("", "c1") == [item("a"), item("b"), item("c")]
    assert await storage.conversations.item("", "c1", "b") == item("b")
    page = await storage.conversations.page("", "c1", PageQuery(limit=1, after="c"))
    assert page == Page([item("b")], True)


async def test_metadata_is_replaced(storage: Storage) -> None:
    await storage.conversations.create("", Conversation("c1", 7, {"a": "1"}), [])
    assert await storage.conversations.relabel("", "c1", {"b": "2"}) == Conversation(
        "c1", 7, {"b": "2"}
    )
    assert await storage.conversations.get("", "c1") == Conversation("c1", 7, {"b": "2"})


async def test_deleting_an_item_and_the_whole(storage: Storage) -> None:
    new = Conversation("c1", 7, {})
    await storage.conversations.create("", new, [item("a"), item("b")])
    assert await storage.conversations.delete_item("", "c1", "b") == new
    with pytest.raises(ObjectNotFound, match=r"^Item with id 'b' not found\.$"):
        await storage.conversations.delete_item("", "c1", "b")
    with pytest.raises(ObjectNotFound):
        await storage.conversations.item("", "c1", "b")
    await storage.conversations.append("", "c1", [item("b")])
    await storage.conversations.delete("", "c1")
    with pytest.raises(ObjectNotFound, match=r"^Conversation with id 'c1' not found\.$"):
        await storage.conversations.items("", "c1")
    assert await storage.responses.find_items("", ["a", "b"]) == {}


async def test_it_belongs_to_its_owner(storage: Storage) -> None:
    await storage.conversations.create("me", Conversation("c1", 7, {}), [item("a")])
    mine = storage.conversations
    for call in (
        mine.get("you", "c1"),
        mine.relabel("you", "c1", {}),
        mine.delete("you", "c1"),
        mine.append("you", "c1", [item("b")]),
        mine.page("you", "c1", PageQuery()),
        mine.items("you", "c1"),
        mine.item("you", "c1", "a"),
        mine.delete_item("you", "c1", "a"),
    ):
        with pytest.raises(ObjectNotFound, match="Conversation with id 'c1' not found"):
            await call
    assert await mine.items("me", "c1") == [item("a")]


@pytest.mark.parametrize("new", [("a",), ("c", "b"), ("c", "c")])
async def test_an_item_is_there_once(new: tuple[str, ...], storage: Storage) -> None:
    await storage.conversations.create("", Conversation("c1", 7, {}), [item("a"), item("b")])
    with pytest.raises(InvalidRequest, match=f"already has an item '{new[-1]}'"):
        await storage.conversations.append("", "c1", [item(one) for one in new])
    assert await storage.conversations.items("", "c1") == [item("a"), item("b")]


async def test_two_servers_on_one_file(url: str, storage: Storage) -> None:
    other = Storage(url)
    await asyncio.gather(storage.database.open(), other.database.open())
    await storage.conversations.create("", Conversation("c1", 7, {}), [])
    await asyncio.gather(
        *(
            one.conversations.append("", "c1", [item(f"{name}{n}")])
            for n in range(10)
            for name, one in (("a", storage), ("b", other))
        )
    )
    ids = {one["id"] for one in await other.conversations.items("", "c1")}
    assert ids == {f"{name}{n}" for n in range(10) for name in "ab"}
    await other.database.close()
