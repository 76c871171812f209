"""``AdapterShelf``: adapters are loaded once, counted while in use, and give way when unused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from server.engines.adapters import RETRY_AFTER_S, AdapterShelf
from server.engines.spec import Adapter
from server.errors import AdapterFailed, EngineDied, ModelLoading, Overloaded
from tests.support.ranch import until


def adapter(name: str, content: str | None = None) -> Adapter:
    digest = hashlib.sha256((content or name).encode()).hexdigest()
    return Adapter(name, Path("/adapters") / name, digest, rank=8, bytes=1000)


A, B, C = map(adapter, "abc")


class Host:
    """Keeps what it was told, and refuses what an engine would not survive."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.held: set[str] = set()
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.unload_error: Exception | None = None
        self.busy = False

    async def load_adapter(self, adapter: Adapter) -> None:
        await self._alone()
        if self.error is not None:
            self.log.append(f"!{adapter.name}")
            raise self.error
        assert adapter.digest not in self.held
        self.log.append(f"+{adapter.name}")
        self.held.add(adapter.digest)
        self.most = max(self.most, len(self.held))

    async def unload_adapter(self, adapter: Adapter) -> None:
        if self.unload_error is not None:
            raise self.unload_error
        await self._alone()
        self.held.remove(adapter.digest)
        self.log.append(f"-{adapter.name}")

    async def _alone(self) -> None:
        assert not self.busy, "two calls at once"
        self.busy = True
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.busy = False


@pytest.fixture
def host() -> Host:
    return Host()


Use = Callable[..., Awaitable["Held"]]


class Held:
    """An adapter in use by a task of its own."""

    def __init__(self, shelf: AdapterShelf, adapter: Adapter, wait_seconds: float) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._use(shelf, adapter, wait_seconds))

    async def _use(self, shelf: AdapterShelf, adapter: Adapter, wait_seconds: float) -> None:
        async with shelf.hold(adapter, wait_seconds=wait_seconds):
            self.begun.set()
            await self.let_go.wait()

    async def end(self) -> None:
        self.let_go.set()
        await self.task


@pytest.fixture
async def use() -> AsyncGenerator[Callable[..., Held], None]:
    made: list[Held] = []

    def use(shelf: AdapterShelf, adapter: Adapter, wait_seconds: float = 5.0) -> Held:
        made.append(Held(shelf, adapter, wait_seconds))
        return made[-1]

    yield use
    for held in made:
        held.task.cancel()
    await asyncio.gather(*(held.task for held in made), return_exceptions=True)


async def used(shelf: AdapterShelf, *adapters: Adapter) -> None:
    for each in adapters:
        async with shelf.hold(each, wait_seconds=1):
            pass


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_adapter_is_loaded_at_its_first_use_and_stays(host: Host) -> None:
    shelf = AdapterShelf(host, 2)
    await used(shelf, A, A, B, A)
    assert host.log == ["+a", "+b"]
    assert shelf.held == [A, B]


async def test_many_that_want_the_same_wait_for_one_load(
    host: Host, use: Callable[..., Held]
) -> None:
    shelf = AdapterShelf(host, 2)
    host.gate.clear()
    same = [use(shelf, A) for _ in range(5)] + [use(shelf, adapter("other name", "a"))]
    await settled()
    assert not any(held.begun.is_set() for held in same)
    host.gate.set()
    await asyncio.gather(*(held.begun.wait() for held in same))
    assert host.log == ["+a"]


async def test_the_longest_unused_gives_way(host: Host) -> None:
    shelf = AdapterShelf(host, 2)
    await used(shelf, A, B, A, C)
    assert host.log == ["+a", "+b", "-b", "+c"]
    await used(shelf, A, B)
    assert host.log[4:] == ["-c", "+b"]
    assert host.most == 2


async def test_one_in_use_does_not_give_way(host: Host, use: Callable[..., Held]) -> None:
    shelf = AdapterShelf(host, 2)
    first = use(shelf, A)
    await first.begun.wait()
    await used(shelf, B, C)
    assert host.log == ["+a", "+b", "-b", "+c"]
    await first.end()


async def test_who_finds_no_place_waits_until_one_is_let_go(
    host: Host, use: Callable[..., Held]
) -> None:
    shelf = AdapterShelf(host, 1)
    first, second = use(shelf, A), use(shelf, A)
    await asyncio.gather(first.begun.wait(), second.begun.wait())
    waiting = use(shelf, B)
    await first.end()
    await settled()
    assert not waiting.begun.is_set()
    await second.end()
    await waiting.begun.wait()
    assert host.log == ["+a", "-a", "+b"]
    assert host.most == 1


async def test_adapters_in_steady_use_cannot_keep_another_out(
    host: Host, use: Callable[..., Held]
) -> None:
    shelf = AdapterShelf(host, 1)
    first = use(shelf, A)
    await first.begun.wait()
    waiting = use(shelf, B)
    await settled()
    later = [use(shelf, A), use(shelf, A)]
    await settled()
    assert not any(held.begun.is_set() for held in (waiting, *later))
    await first.end()
    await waiting.begun.wait()
    assert not any(held.begun.is_set() for held in later)
    await waiting.end()
    await asyncio.gather(*(held.begun.wait() for held in later))
    assert host.log == ["+a", "-a", "+b", "-b", "+a"]


async def test_waiting_for_a_place_has_an_end(host: Host, use: Callable[..., Held]) -> None:
    shelf = AdapterShelf(host, 1)
    first = use(shelf, A)
    await first.begun.wait()
    with pytest.raises(Overloaded) as caught:
        async with shelf.hold(B, wait_seconds=0.02):
            pass
    assert str(caught.value) == (
        "All places for adapters (1) are in use, so 'b' cannot be loaded. Try again shortly."
    )
    assert caught.value.retry_after == 5.0
    # Nobody waits any more: those who come for A need not either.
    await settled()
    await used(shelf, A)
    await first.end()
    assert host.log == ["+a"]


async def test_waiting_for_a_load_has_an_end_and_the_load_goes_on(host: Host) -> None:
    shelf = AdapterShelf(host, 1)
    host.gate.clear()
    with pytest.raises(ModelLoading) as caught:
        async with shelf.hold(A, wait_seconds=0.02):
            pass
    assert (caught.value.model, caught.value.retry_after) == ("a", 5.0)
    host.gate.set()
    await until(lambda: shelf.held == [A])
    await used(shelf, A, B)
    assert host.log == ["+a", "-a", "+b"]


async def test_who_leaves_while_waiting_leaves_nothing_behind(
    host: Host, use: Callable[..., Held]
) -> None:
    shelf = AdapterShelf(host, 1)
    first = use(shelf, A)
    await first.begun.wait()
    waiting, behind = use(shelf, B), use(shelf, C)
    await settled()
    waiting.task.cancel()
    await settled()
    await first.end()
    await behind.begun.wait()
    assert host.log == ["+a", "-a", "+c"]
    await behind.end()
    await used(shelf, B)
    assert host.log[3:] == ["-c", "+b"]


async def test_who_leaves_in_the_moment_of_the_grant_lets_go_again(
    host: Host, use: Callable[..., Held]
) -> None:
    for steps in range(12):  # whichever step of the loop the grant falls into
        shelf = AdapterShelf(host, 1)
        host.held.clear()
        leaving = use(shelf, A)
        for _ in range(steps):
            await asyncio.sleep(0)
        leaving.task.cancel()
        await settled()
        await used(shelf, B)  # waits for good if A still counts as used
        assert shelf.held == [B]


async def test_one_that_fails_fails_alone_and_is_not_tried_again_at_once(host: Host) -> None:
    now = [0.0]
    shelf = AdapterShelf(host, 1, clock=lambda: now[0])
    await used(shelf, B)
    host.error = AdapterFailed("a", "It is broken.")
    for _ in range(2):
        with pytest.raises(AdapterFailed) as caught:
            await used(shelf, A)
        assert str(caught.value) == "It is broken."
        assert caught.value.retry_after == RETRY_AFTER_S
    assert host.log == ["+b", "-b", "!a"]
    with pytest.raises(AdapterFailed) as caught:
        await used(shelf, adapter("other name", "a"))
    assert caught.value.model == "other name"
    host.error = None
    await used(shelf, B)
    now[0] = RETRY_AFTER_S
    await used(shelf, A)
    assert host.log[3:] == ["+b", "-b", "+a"]


async def test_everybody_who_waits_for_one_that_fails_is_told(
    host: Host, use: Callable[..., Held]
) -> None:
    shelf = AdapterShelf(host, 1)
    host.gate.clear()
    host.error = AdapterFailed("a", "It is broken.")
    waiting = [use(shelf, A), use(shelf, A), use(shelf, B)]
    await settled()
    host.gate.set()
    errors = await asyncio.gather(*(held.task for held in waiting), return_exceptions=True)
    assert [str(error) for error in errors] == ["It is broken."] * 3
    assert host.log == ["!a", "!b"]


async def test_an_engine_that_dies_tells_who_waits_and_is_asked_again(host: Host) -> None:
    shelf = AdapterShelf(host, 1)
    host.error = EngineDied("It ended.")
    with pytest.raises(EngineDied):
        await used(shelf, A)
    host.error = None
    await used(shelf, A)
    host.unload_error = EngineDied("It ended.")
    with pytest.raises(EngineDied):
        await used(shelf, B)
    # What could not be let go of still has its place.
    assert shelf.held == [A]


async def test_a_closed_shelf_brings_nothing(host: Host, use: Callable[..., Held]) -> None:
    shelf = AdapterShelf(host, 1)
    first = use(shelf, A)
    await first.begun.wait()
    waiting = use(shelf, B)
    await settled()
    await shelf.close()
    with pytest.raises(EngineDied, match="The engine was stopped"):
        await waiting.task
    with pytest.raises(EngineDied):
        await used(shelf, C)
    await first.end()
    await shelf.close()
    assert host.log == ["+a"]


async def test_an_engine_without_room_takes_none(host: Host) -> None:
    with pytest.raises(AdapterFailed, match="without room for adapters"):
        await used(AdapterShelf(host, 0), A)


async def test_a_crowd_never_exceeds_the_places_and_everybody_is_served(host: Host) -> None:
    shelf = AdapterShelf(host, 2)
    names = [adapter(name) for name in "abcde"]
    served: list[str] = []

    async def one(number: int) -> None:
        mine = names[number * 7 % 5]
        async with shelf.hold(mine, wait_seconds=10):
            assert mine.digest in host.held
            for _ in range(number % 4):
                await asyncio.sleep(0)
            assert mine.digest in host.held
        served.append(mine.name)

    work: list[Coroutine[Any, Any, None]] = [one(number) for number in range(200)]
    await asyncio.gather(*work)
    assert len(served) == 200
    assert host.most == 2
