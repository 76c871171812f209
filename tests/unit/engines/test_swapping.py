"""Engines that do not fit together, in virtual time: who goes, when, and who waits how long."""

from __future__ import annotations

import asyncio

import pytest

from server.errors import ModelEvicted, ModelFailed
from tests.support.stable import LOAD_S, Stable, Stall, use
from tests.unit.engines.test_pool import in_virtual_time, start


@in_virtual_time
async def test_an_idle_engine_makes_room() -> None:
    stable = Stable(budget=20)
    a, b, c = (stable.add(name) for name in "abc")
    await use(a)
    await asyncio.sleep(100)
    await use(b)
    began = stable.now
    await use(c)
    assert stable.now - began == pytest.approx(LOAD_S, abs=0.2)
    assert stable.loaded() == ["b", "c"], "a was unused for longer"
    assert a.state.status == "unloaded"


@in_virtual_time
async def test_what_is_quickly_loaded_again_goes_first() -> None:
    stable = Stable(budget=20)
    slow, quick = Stall(), Stall()
    slow.seconds = 60
    a, b, c = stable.add("a", slow), stable.add("b", quick), stable.add("c")
    await use(a)
    await asyncio.sleep(100)
    await use(b)
    await asyncio.sleep(20)
    await use(c)
    assert stable.loaded() == ["a", "c"]
    await asyncio.sleep(1000)
    await use(c)
    await use(b)
    assert stable.loaded() == ["b", "c"], "long unused, what loading it again takes counts less"


@in_virtual_time
async def test_a_pause_between_two_requests_is_not_idleness() -> None:
    stable = Stable(budget=10, min_residency=10, grace=2)
    a, b = stable.add("a"), stable.add("b")
    await use(a)
    began = stable.now
    (newcomer,) = start(use(b))
    for _ in range(20):  # one request a second
        await asyncio.sleep(0.9)
        if not newcomer.done() and "a" in stable.loaded():
            await use(a, 0.1)
    await newcomer
    gone = stable.now - began
    assert gone == pytest.approx(20, abs=3), "10 s of residency, then its own load"


@in_virtual_time
async def test_an_engine_unused_for_a_moment_goes_at_once() -> None:
    stable = Stable(budget=10)
    a, b = stable.add("a"), stable.add("b")
    await use(a)
    began = stable.now
    await use(b)
    assert stable.now - began == pytest.approx(2 + LOAD_S, abs=0.3)


@in_virtual_time
async def test_a_busy_engine_is_drained_after_the_longest_wait() -> None:
    stable = Stable(budget=10, max_wait=30, min_residency=10, drain=30)
    a, b = stable.add("a"), stable.add("b")
    first = start(use(a, 50))
    await asyncio.sleep(LOAD_S)
    began = stable.now
    (newcomer,) = start(use(b, 1))
    await asyncio.sleep(20)
    assert (a.state.status, b.state.detail) == ("ready", "waiting for room: a in use")
    second = start(use(a, 15))  # still let in
    await asyncio.sleep(11)
    assert (a.state.status, a.state.detail) == ("draining", "making room for b")
    assert b.state.detail == "waiting for a to finish"
    (third,) = start(use(a))  # has to wait
    await asyncio.gather(*first, *second)
    assert a.state.waiting == 1
    await newcomer
    assert stable.now - began == pytest.approx(50 + LOAD_S + 1, abs=0.5)
    await third
    assert stable.loaded() == ["a"], "those who waited for it come next"


@in_virtual_time
async def test_what_outlasts_the_drain_is_told() -> None:
    stable = Stable(budget=10, max_wait=30, min_residency=10, drain=30)
    a, b = stable.add("a"), stable.add("b")
    (long,) = start(use(a, 1000))
    await asyncio.sleep(LOAD_S)
    began = stable.now
    await use(b)
    assert stable.now - began == pytest.approx(30 + 30 + LOAD_S, abs=0.5)
    with pytest.raises(ModelEvicted, match="The model 'a' had to make room for another one"):
        await long


@in_virtual_time
async def test_who_gives_up_waiting_drains_nobody_any_more() -> None:
    stable = Stable(budget=10, max_wait=5, min_residency=0, drain=100)
    a, b = stable.add("a"), stable.add("b")
    running = start(use(a, 50))
    await asyncio.sleep(LOAD_S + 1)
    (newcomer,) = start(use(b))
    await asyncio.sleep(10)
    queued = start(use(a, 1))
    await asyncio.sleep(1)
    assert (a.state.status, a.state.waiting) == ("draining", 1)
    newcomer.cancel()
    await asyncio.sleep(0.5)
    assert (a.state.status, a.state.requests) == ("ready", 2)
    assert b.state.status == "unloaded"
    await asyncio.gather(*running, *queued)


@in_virtual_time
async def test_small_engines_cannot_starve_a_large_one() -> None:
    stable = Stable(budget=30, max_wait=10, min_residency=5, drain=20)
    small = [stable.add(f"small{n}") for n in range(4)]
    large = stable.add("large", Stall(30))
    done: list[float] = []

    async def callers() -> None:
        while not done:
            await asyncio.gather(*(use(slot, 3) for slot in small))

    (noise,) = start(callers())
    await asyncio.sleep(40)
    began = stable.now
    await use(large, 1)
    done.append(stable.now - began)
    assert done[0] < 10 + 5 + 20 + 2 * LOAD_S + 1
    await noise


@in_virtual_time
async def test_an_engine_that_fits_overtakes_one_that_waits_for_room() -> None:
    stable = Stable(budget=30, max_wait=60)
    a, big, c = stable.add("a", Stall(20)), stable.add("big", Stall(25)), stable.add("c")
    running = start(use(a, 60))
    await asyncio.sleep(LOAD_S)
    waiting = start(use(big))
    await asyncio.sleep(1)
    began = stable.now
    await use(c)
    assert stable.now - began == pytest.approx(LOAD_S, abs=0.2)
    await asyncio.gather(*running, *waiting)


@in_virtual_time
async def test_a_pinned_engine_stays() -> None:
    stable = Stable(budget=20)
    a, b = stable.add("a", pinned=True), stable.add("b", Stall(15))
    await use(a)
    await asyncio.sleep(1000)
    with pytest.raises(ModelFailed) as caught:
        await use(b)
    assert str(caught.value) == (
        "There is no room for 'b': it lacks 1 MiB beside pinned models (a)."
    )
    assert caught.value.retry_after == 30
    assert b.state.status == "unloaded"
    a.options = type(a.options)(pinned=False)
    await use(b)
    assert stable.loaded() == ["b"]


@in_virtual_time
async def test_what_never_fits_is_refused_with_the_figure() -> None:
    mib = 1 << 20
    stable = Stable(budget=100 * mib)
    slot = stable.add("m", Stall(90 * mib, loading=20 * mib))
    with pytest.raises(
        ModelFailed, match="'m' needs 110 MiB, 10 MiB more than there is for models"
    ):
        await use(slot)
    assert slot.state.status == "failed"
    assert slot.loader.engines == []  # type: ignore[attr-defined]


@in_virtual_time
async def test_the_peak_of_a_load_has_room_too() -> None:
    stable = Stable(budget=30)
    a, b = stable.add("a"), stable.add("b", Stall(15, loading=10))
    await use(a)
    await use(b)
    assert stable.loaded() == ["b"], "both would fit, but not while b is being loaded"
    assert stable.ledger.holdings == {"b": {"ram": 15}}


@in_virtual_time
async def test_loads_come_one_after_another() -> None:
    stable = Stable(budget=1000)
    Stall.most_at_once = 0
    slots = [stable.add(str(number)) for number in range(5)]
    await asyncio.gather(*map(use, slots))
    assert Stall.most_at_once == 1
    assert stable.now == pytest.approx(5 * LOAD_S, abs=0.5)


@in_virtual_time
async def test_preloading_displaces_nobody() -> None:
    stable = Stable(budget=20)
    slots = [stable.add(name) for name in "abc"]
    for slot in slots:
        stable.pool.want(slot)
    await asyncio.sleep(60)
    assert stable.loaded() == ["a", "b"]
    state = slots[2].state
    assert (state.status, state.detail) == (
        "unloaded",
        "lacks 1 MiB beside what is loaded; comes when it is asked for",
    )
    await use(slots[2])
    assert "c" in stable.loaded()


@in_virtual_time
async def test_who_waits_comes_before_what_is_preloaded() -> None:
    stable = Stable(budget=100)
    slots = [stable.add(name) for name in "abc"]
    for slot in slots:
        stable.pool.want(slot)
    await asyncio.sleep(1)
    await use(slots[2])
    assert stable.loaded() == ["a", "c"]


@in_virtual_time
async def test_an_idle_engine_is_unloaded_after_its_time() -> None:
    stable = Stable()
    a, b = stable.add("a", idle_timeout=60.0), stable.add("b", idle_timeout=60.0, pinned=True)
    await asyncio.gather(use(a), use(b))
    await use(a)
    await asyncio.sleep(58)
    assert stable.loaded() == ["a", "b"]
    await use(a, 30)
    await asyncio.sleep(58)
    assert "a" in stable.loaded()
    await asyncio.sleep(4)
    assert stable.loaded() == ["b"]
    assert stable.ledger.holdings == {"b": {"ram": 10}}


GPU = {"ram": 100 << 30, "gpu0": 20 << 30}
TEN_GB = 10 << 30


@in_virtual_time
async def test_an_idle_engine_sleeps_and_wakes() -> None:
    stable, stall = Stable(GPU), Stall(TEN_GB, can_sleep=True, host=1 << 30)
    slot = stable.add("m", stall, sleep_after=30.0, idle_timeout=100.0)
    await use(slot)
    await asyncio.sleep(32)
    assert (slot.state.status, stall.engines[0].asleep) == ("sleeping", 1)
    assert stable.ledger.holdings == {"m": {"gpu0": 700 << 20, "ram": TEN_GB + (1 << 30)}}
    began = stable.now
    await use(slot)
    assert stable.now - began < 0.2, "no load"
    assert (slot.state.status, stall.engines[0].asleep) == ("ready", 0)
    assert stable.ledger.holdings == {"m": {"gpu0": TEN_GB, "ram": 1 << 30}}
    await asyncio.sleep(102)
    assert stable.loaded() == []
    assert len(stall.engines) == 1


@in_virtual_time
async def test_an_engine_on_a_gpu_makes_room_by_sleeping() -> None:
    stable = Stable(GPU)
    stalls = [Stall(TEN_GB - (1 << 30), can_sleep=True) for _ in "abc"]
    a, b, c = (stable.add(n, stall) for n, stall in zip("abc", stalls, strict=True))
    for slot in (a, b, c):
        await use(slot)
        await asyncio.sleep(20)
    assert [s.state.status for s in (a, b, c)] == ["sleeping", "ready", "ready"]
    await use(a)
    assert [s.state.status for s in (a, b, c)] == ["ready", "sleeping", "ready"]
    assert [len(stall.engines) for stall in stalls] == [1, 1, 1], "nothing was loaded twice"


@in_virtual_time
async def test_without_ram_for_its_weights_it_is_unloaded() -> None:
    stable = Stable({"ram": 1 << 30, "gpu0": 20 << 30})
    a, b = (stable.add(name, Stall(15 << 30, can_sleep=True)) for name in "ab")
    await use(a)
    await asyncio.sleep(20)
    await use(b)
    assert [a.state.status, b.state.status] == ["unloaded", "ready"]


@in_virtual_time
async def test_an_operator_unloads_what_runs_only_after_its_end() -> None:
    stable = Stable(drain=30)
    slot = stable.add("m")
    (running,) = start(use(slot, 20))
    await asyncio.sleep(LOAD_S + 1)
    await stable.pool.unload(slot)
    await running
    assert (slot.state.status, stable.now) == ("unloaded", pytest.approx(LOAD_S + 20, abs=0.5))
    await stable.pool.unload(slot)  # nothing to do


@in_virtual_time
async def test_an_operator_ends_a_load() -> None:
    stable, stall = Stable(), Stall()
    slot = stable.add("m", stall)
    stable.pool.want(slot)
    await asyncio.sleep(1)
    await stable.pool.unload(slot)
    assert stable.now < LOAD_S
    assert (slot.state.status, stable.ledger.holdings) == ("unloaded", {})


@in_virtual_time
async def test_an_operator_restarts_and_has_engines_sleep() -> None:
    stable, stall = Stable(GPU), Stall(TEN_GB, can_sleep=True)
    slot = stable.add("m", stall)
    first = await use(slot)
    await stable.pool.restart(slot)
    assert not first.alive
    second = await use(slot)
    assert second is stall.engines[1]
    await stable.pool.sleep(slot, 2)
    assert (slot.state.status, second.asleep) == ("sleeping", 2)
    stable.pool.want(slot)
    await asyncio.sleep(1)
    assert (slot.state.status, second.asleep) == ("ready", 0)
