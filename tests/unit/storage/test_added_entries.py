"""Entries that were added to a registry, by the file that they stand behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from server.storage import AddedEntry, Storage

FILE = "/srv/model_registry.yaml"
ONE = AddedEntry("org/one", 10, {"id": "org/one", "source": {"hub": "a/b"}, "stop": ["ä", "\n"]})
TWO = AddedEntry("two", 10, {"id": "two"})


async def test_entries_keep_their_order_and_their_content(url: str, storage: Storage) -> None:
    store = storage.added_entries
    assert store.kept
    assert await store.all(FILE) == []
    await store.put(FILE, TWO)
    await store.put(FILE, ONE)
    again = Storage(url)
    assert await again.added_entries.all(FILE) == [TWO, ONE]
    await again.database.close()
    # One that replaces another one takes its place.
    newer = replace(TWO, entry={"id": "two", "description": "newer"})
    await store.put(FILE, newer)
    assert await store.all(FILE) == [newer, ONE]
    await store.remove(FILE, "two")
    await store.remove(FILE, "two")
    assert await store.all(FILE) == [ONE]
    await store.put(FILE, TWO)
    assert await store.all(FILE) == [ONE, TWO]


async def test_each_file_has_its_own(storage: Storage) -> None:
    store = storage.added_entries
    await store.put(FILE, ONE)
    await store.put("/other.yaml", TWO)
    await store.remove("/other.yaml", "org/one")
    assert await store.all(FILE) == [ONE]
    assert await store.all("/other.yaml") == [TWO]


async def test_entries_are_added_at_the_same_time(storage: Storage) -> None:
    store = storage.added_entries
    entries = [AddedEntry(f"m{n}", n, {"id": f"m{n}"}) for n in range(20)]
    await asyncio.gather(*(store.put(FILE, entry) for entry in entries))
    assert sorted(entry.created_at for entry in await store.all(FILE)) == [*range(20)]


async def test_without_a_database_nothing_is_kept() -> None:
    assert not Storage(None).added_entries.kept
