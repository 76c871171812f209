"""Loading, failing and ending of one engine, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest

from server.engines.slot import EngineSlot
from server.engines.states import SlotRetired
from server.engines.tenure import Tenure
from server.errors import EngineDied, ModelFailed, ModelLoading
from tests.support import virtual_time
from tests.support.stable import LOAD_S, Stable, Stall, use


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test whose waiting takes no time."""

    @wraps(test)
    def run() -> None:
        virtual_time.run(test())  # type: ignore[arg-type]

    return run


def start(*work: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(one) for one in work]


@in_virtual_time
async def test_it_is_loaded_once_for_all_who_wait() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    assert slot.state.status == "unloaded"
    waiting = start(*(use(slot) for _ in range(10)))
    await asyncio.sleep(1)
    state = slot.state
    assert (state.status, state.detail, state.waiting) == ("loading", "working", 10)
    assert slot.engine is None
    assert {*await asyncio.gather(*waiting)} == {slot.engine} == {*stall.engines}
    assert (stable.now, slot.state.status, slot.state.detail) == (LOAD_S, "ready", "")
    assert await use(slot) is slot.engine
    assert len(stall.engines) == 1


@in_virtual_time
async def test_requests_are_counted_while_they_hold_the_engine() -> None:
    slot = Stable().add("m")
    running = start(use(slot, 3), use(slot, 5))
    await asyncio.sleep(LOAD_S + 1)
    assert slot.state.requests == 2
    await running[0]
    assert slot.state.requests == 1
    running[1].cancel()
    await asyncio.gather(*running, return_exceptions=True)
    with pytest.raises(ValueError, match="x"), await slot.acquire(wait_seconds=1):
        raise ValueError("x")
    assert (slot.state.requests, slot.state.waiting) == (0, 0)


@in_virtual_time
async def test_who_leaves_does_not_stop_the_load() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    leaving, staying = start(use(slot), use(slot))
    await asyncio.sleep(1)
    leaving.cancel()
    assert await staying is slot.engine
    assert (len(stall.engines), slot.state.requests) == (1, 0)


@in_virtual_time
async def test_a_request_that_leaves_as_it_is_served_holds_nothing() -> None:
    slot = Stable().add("m")
    (task,) = start(use(slot, 100))
    granted = []

    def began(tenure: Tenure) -> None:
        EngineSlot.began(slot, tenure)
        granted.append(slot.running)
        task.cancel()  # before the request itself has run again

    slot.began = began  # type: ignore[method-assign]
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (granted, slot.running, slot.waiting) == ([1], 0, 0)


@in_virtual_time
async def test_waiting_has_an_end() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    with pytest.raises(ModelLoading, match=r"'m' is still loading \(working\)") as caught:
        await use(slot, wait=2)
    assert (caught.value.model, caught.value.retry_after, stable.now) == ("m", 5.0, 2.0)
    assert slot.state.status == "loading"
    assert await use(slot) is stall.engines[0]


@in_virtual_time
async def test_a_failed_load_is_tried_again_after_a_pause() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    stall.error = EngineDied("no memory")
    failures = await asyncio.gather(*(use(slot) for _ in range(3)), return_exceptions=True)
    assert [str(failure) for failure in failures] == ["no memory"] * 3
    assert (slot.state.status, slot.state.detail, stable.now) == ("failed", "no memory", LOAD_S)
    await asyncio.sleep(8)
    with pytest.raises(ModelFailed, match="no memory") as caught:
        await use(slot)
    assert caught.value.retry_after == pytest.approx(2)
    assert len(stall.engines) == 1
    assert stable.ledger.holdings == {}
    await asyncio.sleep(3)
    stall.error = None
    assert await use(slot) is stall.engines[1]
    assert slot.state.status == "ready"


@in_virtual_time
async def test_the_pause_grows_and_five_failures_are_hopeless() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    stall.error = EngineDied("no memory")
    pauses = []
    for _ in range(7):
        with pytest.raises(ModelFailed) as caught:
            await use(slot)
        assert caught.value.retry_after is not None
        pauses.append(caught.value.retry_after)
        assert stable.pool.hopeless == (len(pauses) >= 5)
        await asyncio.sleep(pauses[-1])
    assert pauses == [10, 10, 10, 10, 10, 20, 40]
    stable.add("other")
    assert not stable.pool.hopeless


@in_virtual_time
async def test_an_unforeseen_error_fails_all_who_wait_alike() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    stall.error = KeyError("architectures")
    found = await asyncio.gather(*(use(slot) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["KeyError: 'architectures'"] * 3
    assert {type(error) for error in found} == {ModelFailed}


@in_virtual_time
async def test_a_dead_engine_is_replaced_at_once() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    first = await use(slot)
    running = start(use(slot, 100))
    await asyncio.sleep(10)
    first.kill()
    with pytest.raises(EngineDied):
        await running[0]
    await asyncio.sleep(1)
    assert slot.state.status == "loading", "nobody has to ask for it"
    second = await use(slot)
    assert second is stall.engines[1] is slot.engine
    assert stable.ledger.holdings == {"m": {"ram": 10}}


@in_virtual_time
async def test_an_engine_that_keeps_dying_has_failed() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    noticed, ready_at = 1, []
    while slot.state.status != "failed":
        if slot.engine is not None:
            ready_at.append(stable.now)
            stall.engines[-1].kill()
        await asyncio.sleep(0.1)
        if not stall.engines:
            stable.pool.want(slot)
    assert len(stall.engines) == 5
    pauses = [after - before for before, after in itertools.pairwise(ready_at)]
    assert pauses == pytest.approx([LOAD_S + noticed + pause for pause in (0, 1, 2, 4)], abs=0.5)
    assert slot.state.detail == "The engine of 'm' was lost: its process ended."
    assert stable.pool.hopeless
    stable.pool.want(slot)
    assert await use(slot) is stall.engines[5], "an operator may try once more"


@in_virtual_time
async def test_an_engine_that_lived_long_starts_with_a_clean_record() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    for _ in range(20):
        (await use(slot)).kill()
        await asyncio.sleep(1)
        await use(slot)
        await asyncio.sleep(310)
    assert slot.failures == 0
    assert slot.state.status == "ready"


@in_virtual_time
async def test_closing_while_loading_tells_who_waits() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    (waiting,) = start(use(slot))
    await asyncio.sleep(1)
    await stable.pool.close()
    with pytest.raises(ModelFailed, match="because the server is stopping") as caught:
        await waiting
    assert caught.value.retry_after is None
    with pytest.raises(ModelFailed, match="because the server is stopping"):
        await use(slot)
    assert len(stall.engines) == 1
    assert not stall.engines[0].alive


@in_virtual_time
async def test_closing_stops_the_engines_and_ends_what_runs() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    running = start(use(slot, 100))
    await asyncio.sleep(LOAD_S + 1)
    await stable.pool.close()
    await stable.pool.close()
    assert not stall.engines[0].alive
    (ended,) = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(ended, Exception)
    assert slot.state.status == "unloaded"
    assert stable.ledger.holdings == {}


@in_virtual_time
async def test_a_load_that_hangs_is_given_up() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    stall.seconds = 1e6
    with pytest.raises(ModelFailed, match="Loading took too long"):
        await use(slot, wait=1e6)
    assert stable.now == 3600
    assert stable.ledger.holdings == {}


@in_virtual_time
async def test_a_hung_engine_is_found_by_its_silence_and_replaced() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    (running,) = start(use(slot, 1000))
    await asyncio.sleep(LOAD_S)
    stall.engines[0].hangs = True
    with pytest.raises(EngineDied):
        await running
    assert LOAD_S + 15 <= stable.now <= LOAD_S + 18, "5 s of silence, 10 s without work"
    assert slot.state.detail.startswith(
        "The engine of 'm' was lost: it hangs: no token and no work"
    )
    await use(slot)
    assert slot.engine is stall.engines[1]


@in_virtual_time
async def test_an_idle_engine_is_asked_once_a_minute() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    await use(slot)
    await asyncio.sleep(600)
    assert 9 <= stall.engines[0].probes <= 10
    stall.engines[0].hangs = True
    await asyncio.sleep(75)
    assert len(stall.engines) == 2, "nobody had to notice"


@in_virtual_time
async def test_a_slow_step_is_no_hang() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    (running,) = start(use(slot, 100))
    await asyncio.sleep(LOAD_S + 1)
    engine = stall.engines[0]
    engine.hangs = True
    engine.cpu_seconds = stable.loop.time  # type: ignore[method-assign]
    await running
    assert len(stall.engines) == 1, "it was at work all the time"
    (running,) = start(use(slot, 1000))
    with pytest.raises(EngineDied):
        await running
    assert stable.now < 300, "at work, but without a token for three minutes"


@in_virtual_time
async def test_a_retired_slot_finishes_what_runs() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    await use(slot)
    running, _ = start(use(slot, 20), asyncio.sleep(0))
    await asyncio.sleep(1)
    stable.pool.retire(slot)
    with pytest.raises(SlotRetired):
        await use(slot)
    assert await running is stall.engines[0]
    await asyncio.sleep(1)
    assert not stall.engines[0].alive
    assert (stable.pool.slots, stable.ledger.holdings) == ((), {})


@in_virtual_time
async def test_who_waits_for_a_retired_slot_looks_again() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    (waiting,) = start(use(slot))
    await asyncio.sleep(1)
    stable.pool.retire(slot)
    with pytest.raises(SlotRetired):
        await waiting
    await asyncio.sleep(1)
    assert (stable.pool.slots, stable.ledger.holdings) == ((), {})
    assert stable.add("m").key == "m"


@in_virtual_time
async def test_two_slots_of_one_name() -> None:
    stable = Stable()
    one, two = stable.add("m"), stable.add("m")
    await asyncio.gather(use(one), use(two))
    assert stable.ledger.holdings == {"m": {"ram": 10}, "m#2": {"ram": 10}}
