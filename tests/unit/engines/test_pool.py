from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from server.engines import pool
from server.engines.base import Engine
from server.engines.pool import EngineSlot, Report
from server.engines.scripted import ScriptedEngine
from server.errors import EngineDied, ModelFailed, ModelLoading


class Loader:
    """Loads scripted engines while its gate is set."""

    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BaseException | None = None

    async def __call__(self, report: Report) -> Engine:
        engine = ScriptedEngine(lambda _: ())
        self.engines.append(engine)
        report("working")
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        await engine.start()
        return engine


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def slot(loader: Loader) -> EngineSlot:
    return EngineSlot("m", loader)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock on."""
    real, moved = pool.time.monotonic, [0.0]
    monkeypatch.setattr(pool.time, "monotonic", lambda: real() + moved[0])

    def move(seconds: float) -> None:
        moved[0] += seconds

    return move


async def lease(slot: EngineSlot, wait: float = 5.0) -> Engine:
    async with slot.lease(wait_seconds=wait) as engine:
        return engine


async def test_it_is_loaded_once_for_all_who_wait(slot: EngineSlot, loader: Loader) -> None:
    loader.gate.clear()
    assert slot.state.status == "unloaded"
    waiting = [asyncio.create_task(lease(slot)) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert (slot.state.status, slot.state.detail) == ("loading", "working")
    assert slot.engine is None
    loader.gate.set()
    engines = await asyncio.gather(*waiting)
    assert loader.engines == [slot.engine]
    assert all(engine is slot.engine for engine in engines)
    assert (slot.state.status, slot.state.detail) == ("ready", "")
    assert slot.begin_loading is not None
    assert await lease(slot) is slot.engine
    assert len(loader.engines) == 1


async def test_requests_are_counted_while_they_hold_the_engine(slot: EngineSlot) -> None:
    async with slot.lease(wait_seconds=1), slot.lease(wait_seconds=1):
        assert slot.state.requests == 2
    with pytest.raises(ValueError, match="x"):
        async with slot.lease(wait_seconds=1):
            raise ValueError("x")
    assert slot.state.requests == 0


async def test_who_leaves_does_not_stop_the_load(slot: EngineSlot, loader: Loader) -> None:
    loader.gate.clear()
    leaving, staying = (asyncio.create_task(lease(slot)) for _ in "12")
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert leaving.cancelled()
    loader.gate.set()
    assert await staying is slot.engine
    assert len(loader.engines) == 1


async def test_waiting_has_an_end(slot: EngineSlot, loader: Loader) -> None:
    loader.gate.clear()
    with pytest.raises(ModelLoading, match=r"'m' is still loading \(working\)") as caught:
        await lease(slot, 0.01)
    assert (caught.value.model, caught.value.retry_after) == ("m", 5.0)
    assert slot.state.status == "loading"
    loader.gate.set()
    assert await lease(slot) is loader.engines[0]


async def test_a_failed_load_is_tried_again_after_a_pause(
    slot: EngineSlot, loader: Loader, later: Callable[[float], None]
) -> None:
    loader.error = EngineDied("no memory")
    for _ in range(3):
        with pytest.raises(ModelFailed, match="no memory") as caught:
            await lease(slot)
        assert caught.value.retry_after is not None
        assert 9 < caught.value.retry_after <= 10
    assert (slot.state.status, slot.state.detail) == ("failed", "no memory")
    assert len(loader.engines) == 1
    later(8)
    with pytest.raises(ModelFailed) as caught:
        await lease(slot)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after < 2.1
    assert len(loader.engines) == 1
    later(3)
    loader.error = None
    assert await lease(slot) is loader.engines[1]
    assert slot.state.status == "ready"


async def test_an_unforeseen_error_fails_all_who_wait_alike(
    slot: EngineSlot, loader: Loader
) -> None:
    loader.error = KeyError("architectures")
    found = await asyncio.gather(*(lease(slot) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["KeyError: 'architectures'"] * 3
    assert {type(error) for error in found} == {ModelFailed}


async def test_a_dead_engine_is_stopped_and_replaced(slot: EngineSlot, loader: Loader) -> None:
    first = await lease(slot)
    loader.engines[0].alive = False
    assert slot.engine is None
    assert (slot.state.status, slot.state.detail) == (
        "unloaded",
        "the engine ended and will be loaded again on demand",
    )
    stopped: list[str] = []

    async def stop() -> None:
        stopped.append("first")

    loader.engines[0].stop = stop  # type: ignore[method-assign]
    second = await lease(slot)
    assert second is not first
    assert (second, stopped) == (slot.engine, ["first"])


async def test_closing_while_loading_tells_who_waits(slot: EngineSlot, loader: Loader) -> None:
    loader.gate.clear()
    waiting = asyncio.create_task(lease(slot))
    await asyncio.sleep(0.01)
    await slot.close()
    with pytest.raises(ModelFailed, match="because the server is stopping") as caught:
        await waiting
    assert caught.value.retry_after is None
    assert slot.state.status == "unloaded"
    loader.gate.set()
    with pytest.raises(ModelFailed, match="because the server is stopping"):
        await lease(slot)
    assert len(loader.engines) == 1


async def test_closing_stops_the_engine(slot: EngineSlot, loader: Loader) -> None:
    await lease(slot)
    await slot.close()
    await slot.close()
    assert not loader.engines[0].alive
    assert (slot.engine, slot.state.status) == (None, "unloaded")


async def test_a_load_that_nobody_waits_for_fails_in_silence(
    slot: EngineSlot, loader: Loader
) -> None:
    loader.error = EngineDied("x")
    task = slot.begin_loading()
    assert slot.begin_loading() is task
    await asyncio.wait([task])
    assert slot.state.status == "failed"
