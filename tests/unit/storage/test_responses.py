"""Stored responses."""

from __future__ import annotations

import asyncio
import time

import pytest

from server.errors import InvalidRequest, ObjectNotFound
from server.storage import Storage
from server.storage.conversations import Conversation
from server.storage.items import PageQuery
from server.storage.responses import History
from tests.unit.storage.support_objects import item, record


async def test_what_was_added_comes_back(storage: Storage) -> None:
    added = record("r1", inputs=("a", "b"), output=("c",))
    await storage.responses.add(added)
    assert await storage.responses.get("", "r1") == added.body


async def test_a_null_byte_and_every_other_text_come_back(storage: Storage) -> None:
    added = record("r1")
    added.body["output"] = [item("c", "\x00 \u2028 é 😀 \"'")]
    await storage.responses.add(added)
    assert await storage.responses.get("", "r1") == added.body


async def test_it_belongs_to_its_owner(storage: Storage) -> None:
    await storage.responses.add(record("r1", owner="me", inputs=("a",)))
    for call in (
        storage.responses.get("you", "r1"),
        storage.responses.delete("you", "r1"),
        storage.responses.history("you", "r1"),
        storage.responses.inputs("you", "r1", PageQuery()),
    ):
        with pytest.raises(ObjectNotFound, match=r"^Response with id 'r1' not found\.$"):
            await call
    assert await storage.responses.end("you", "r1", {"status": "cancelled"}) is False
    assert await storage.responses.find_items("you", ["a"]) == {}
    assert (await storage.responses.get("me", "r1"))["id"] == "r1"


async def test_pages_of_what_went_in(storage: Storage) -> None:
    await storage.responses.add(record("r1", inputs=("a", "b", "c"), output=("d",)))

    async def page(**query: object) -> tuple[list[str], bool]:
        found = await storage.responses.inputs("", "r1", PageQuery(**query))  # type: ignore[arg-type]
        return [one["id"] for one in found.items], found.has_more

    assert await page() == (["c", "b", "a"], False)
    assert await page(limit=2) == (["c", "b"], True)
    assert await page(limit=2, after="b") == (["a"], False)
    assert await page(limit=2, descending=False) == (["a", "b"], True)
    assert await page(limit=2, descending=False, after="a") == (["b", "c"], False)
    with pytest.raises(InvalidRequest, match="There is no item 'd' here") as error:
        await page(after="d")
    assert error.value.param == "after"


async def test_the_history_is_the_whole_chain(storage: Storage) -> None:
    await storage.responses.add(record("r1", inputs=("a",), output=("b",)))
    await storage.responses.add(record("r2", previous="r1", inputs=("c",), output=("d", "e")))
    await storage.responses.add(record("r3", previous="r2", inputs=("f",), status="failed"))
    # A branch, which is no part of it.
    await storage.responses.add(record("r4", previous="r1", inputs=("x",)))
    history = await storage.responses.history("", "r3")
    assert history == History([item(one) for one in "abcdef"], "failed", None)


async def test_a_history_with_a_hole_says_so(storage: Storage) -> None:
    await storage.responses.add(record("r1", inputs=("a",)))
    await storage.responses.add(record("r2", previous="r1", inputs=("b",)))
    await storage.responses.delete("", "r1")
    assert await storage.responses.history("", "r2") == History([item("b")], "completed", "r1")


async def test_deleting_takes_the_items_along(storage: Storage) -> None:
    await storage.responses.add(record("r1", inputs=("a",), output=("b",)))
    await storage.responses.delete("", "r1")
    with pytest.raises(ObjectNotFound):
        await storage.responses.get("", "r1")
    assert await storage.responses.find_items("", ["a", "b"]) == {}


async def test_finishing_an_open_response(storage: Storage) -> None:
    await storage.responses.add(record("r1", status="queued", inputs=("a",)))
    done = record("r1", inputs=("a",), output=("b",))
    assert await storage.responses.finish(done) is True
    assert await storage.responses.get("", "r1") == done.body
    assert await storage.responses.finish(record("r1", output=("c",))) is False
    assert await storage.responses.get("", "r1") == done.body
    assert (await storage.responses.history("", "r1")).items == [item("a"), item("b")]


async def test_ending_an_open_response(storage: Storage) -> None:
    await storage.responses.add(record("r1", status="in_progress"))
    cancelled = {"status": "cancelled", "error": None}
    past = time.time() - 60
    assert await storage.responses.end("", "r1", cancelled, silent_since=past) is False
    assert await storage.responses.end("", "r1", cancelled, silent_since=time.time() + 1) is True
    assert await storage.responses.get("", "r1") == record("r1").body | cancelled
    assert await storage.responses.end("", "r1", {"status": "failed"}) is False


async def test_a_beat_tells_which_are_open_no_more(storage: Storage) -> None:
    await storage.responses.add(record("r1", status="in_progress"))
    await storage.responses.add(record("r2", status="in_progress"))
    before = time.time()
    await storage.responses.end("", "r2", {"status": "cancelled"})
    assert await storage.responses.beat({"r1", "r2", "r3"}) == {"r2", "r3"}
    fields = {"status": "failed"}
    assert await storage.responses.end("", "r1", fields, silent_since=before) is False


async def test_a_response_goes_into_its_conversation_in_one_step(storage: Storage) -> None:
    await storage.conversations.create("", Conversation("c1", 1, {}), [item("a")])
    await storage.responses.add(record("r1", inputs=("b",), output=("c",), conversation="c1"))
    await storage.responses.add(record("r2", inputs=("d",), status="failed", conversation="c1"))
    await storage.responses.add(record("r3", inputs=("e",), status="queued", conversation="c1"))
    ids = [one["id"] for one in await storage.conversations.items("", "c1")]
    assert ids == ["a", "b", "c"]
    done = record("r3", inputs=("e",), output=("f",), conversation="c1")
    assert await storage.responses.finish(done) is True
    ids = [one["id"] for one in await storage.conversations.items("", "c1")]
    assert ids == ["a", "b", "c", "e", "f"]
    with pytest.raises(ObjectNotFound, match="Conversation with id 'c2' not found"):
        await storage.responses.add(record("r5", conversation="c2"))
    with pytest.raises(ObjectNotFound, match="Response with id 'r5' not found"):
        await storage.responses.get("", "r5")


async def test_many_at_once(storage: Storage) -> None:
    await storage.conversations.create("", Conversation("c1", 1, {}), [])
    numbers = range(20)
    await asyncio.gather(
        *(
            storage.responses.add(
                record(f"r{n}", inputs=(f"a{n}",), output=(f"b{n}",), conversation="c1")
            )
            for n in numbers
        )
    )
    ids = [one["id"] for one in await storage.conversations.items("", "c1")]
    # Whole pairs, in any order of the pairs.
    pairs = list(zip(ids[::2], ids[1::2], strict=True))
    assert sorted(pairs) == sorted((f"a{n}", f"b{n}") for n in numbers)
