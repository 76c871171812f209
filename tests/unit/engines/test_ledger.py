from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines.ledger import RAM, Evict, Fits, HeldBack, Ledger, Need, NeverFits


def need(size: int, *, loading: int = 0, devices: int = 1) -> Need:
    return Need(weights=size, kv_cache=0, loading=loading, devices=devices)


def test_what_an_engine_takes() -> None:
    one = Need(weights=100, kv_cache=20, adapters=3, overhead=4, loading=50)
    assert (one.resident, one.peak) == (127, 177)


def test_it_fits_or_it_does_not() -> None:
    ledger = Ledger({RAM: 100})
    assert ledger.place("a", need(100), {}) == Fits((RAM,))
    assert ledger.place("a", need(101), {}) == NeverFits(1)
    assert ledger.place("a", need(60, loading=41), {}) == NeverFits(1), "the peak counts"
    ledger.hold("b", {RAM: 70})
    assert ledger.free(RAM) == 30
    assert ledger.place("a", need(30), {}) == Fits((RAM,))
    assert ledger.place("a", need(50), {}) == HeldBack(20)
    assert ledger.place("a", need(50), {"b": 1.0}) == Evict(("b",), (RAM,))
    ledger.release("b")
    assert ledger.place("a", need(50), {"b": 1.0}) == Fits((RAM,))


def test_what_it_holds_itself_does_not_count() -> None:
    ledger = Ledger({RAM: 100})
    ledger.hold("a", {RAM: 80})
    assert ledger.place("a", need(90), {}) == Fits((RAM,))


def test_the_cheapest_engines_go_and_no_more_than_must() -> None:
    ledger = Ledger({RAM: 100})
    for name, size in {"big": 50, "small": 20, "other": 30}.items():
        ledger.hold(name, {RAM: size})
    costs = {"big": 5.0, "small": 1.0, "other": 1.0}
    assert ledger.place("a", need(20), costs) == Evict(("small",), (RAM,))
    assert ledger.place("a", need(30), costs) == Evict(("other",), (RAM,))
    assert ledger.place("a", need(50), costs) == Evict(("other", "small"), (RAM,))
    assert ledger.place("a", need(50), costs | {"big": 1.5}) == Evict(("big",), (RAM,))
    assert ledger.place("a", need(60), costs) == Evict(("big", "small"), (RAM,))


def test_engines_on_gpus_take_ram_besides() -> None:
    one = Need(weights=40, kv_cache=0, host=20, loading=5)
    assert one.on(("gpu0",)) == {RAM: 20, "gpu0": 40}
    assert one.on(("gpu0", "gpu1"), loading=True) == {RAM: 20, "gpu0": 45, "gpu1": 45}
    assert Ledger({RAM: 19, "gpu0": 80}).place("a", one, {}) == NeverFits(1)
    ledger = Ledger({RAM: 50, "gpu0": 80, "gpu1": 80})
    assert ledger.place("a", one, {}) == Fits(("gpu0",))
    ledger.hold("a", one.on(("gpu0",)))
    ledger.hold("asleep", {RAM: 20})
    assert ledger.place("b", one, {}) == HeldBack(10)
    # What sleeps holds no GPU; it is the RAM that it has to make room in.
    assert ledger.place("b", one, {"a": 2.0, "asleep": 1.0}) == Evict(("asleep",), ("gpu1",))


def test_engines_go_to_the_emptiest_gpu_and_never_to_ram() -> None:
    ledger = Ledger({RAM: 1000, "gpu0": 80, "gpu1": 80})
    ledger.hold("a", {"gpu0": 30})
    assert ledger.place("b", need(40), {}) == Fits(("gpu1",))
    assert ledger.place("b", need(90), {}) == NeverFits(10)
    ledger.hold("b", {"gpu1": 40})
    assert ledger.place("c", need(45), {"a": 2.0, "b": 1.0}) == Fits(("gpu0",))
    assert ledger.place("c", need(60), {"a": 2.0, "b": 1.0}) == Evict(("b",), ("gpu1",))


def test_an_engine_over_several_gpus() -> None:
    ledger = Ledger({RAM: 1000, "gpu0": 80, "gpu1": 80, "gpu2": 80})
    ledger.hold("a", {"gpu0": 30})
    assert ledger.place("b", need(60, devices=2), {}) == Fits(("gpu1", "gpu2"))
    assert ledger.place("b", need(60, devices=3), {"a": 1.0}) == Evict(
        ("a",), ("gpu0", "gpu1", "gpu2")
    )
    assert ledger.place("b", need(1, devices=4), {}) == NeverFits(0, devices_missing=1)


def test_where_there_is_no_choice_of_devices() -> None:
    ledger = Ledger({RAM: 1000, "gpu0": 80, "gpu1": 80})
    ledger.hold("a", {"gpu0": 30})
    assert ledger.place("b", need(60), {"a": 1.0}, only=("gpu0",)) == Evict(("a",), ("gpu0",))


def test_an_engine_that_turned_out_larger_leaves_less_than_nothing() -> None:
    ledger = Ledger({RAM: 100})
    ledger.hold("a", {RAM: 120})
    assert ledger.free(RAM) == -20
    assert ledger.place("b", need(10), {}) == HeldBack(30)


SIZES = st.integers(1, 60)


@given(
    held=st.lists(st.tuples(SIZES, st.integers(0, 9)), max_size=6),
    size=st.integers(1, 120),
    pinned=st.integers(0, 3),
)
def test_no_cheaper_set_would_do(held: list[tuple[int, int]], size: int, pinned: int) -> None:
    ledger = Ledger({RAM: 100})
    for number, (bytes_, _) in enumerate(held):
        ledger.hold(str(number), {RAM: bytes_})
    costs = {str(n): float(cost) for n, (_, cost) in enumerate(held) if n >= pinned}
    sets = [
        (sum(costs[name] for name in gone), gone)
        for count in range(len(costs) + 1)
        for gone in itertools.combinations(costs, count)
        if ledger.free(RAM, gone) >= size
    ]
    match ledger.place("new", need(size), costs):
        case Fits():
            assert ledger.free(RAM) >= size
        case Evict(names, _):
            assert ledger.free(RAM) < size <= ledger.free(RAM, names)
            assert sum(costs[name] for name in names) == min(sets)[0]
        case HeldBack(short):
            assert not sets
            assert short == size - ledger.free(RAM, costs)
        case NeverFits(short):
            assert short == size - 100 > 0


@pytest.mark.parametrize("count", [11, 40])
def test_among_many_engines_nobody_goes_in_vain(count: int) -> None:
    ledger = Ledger({RAM: 10 * count})
    for number in range(count):
        ledger.hold(f"e{number:02}", {RAM: 10})
    costs = {f"e{number:02}": float(number) for number in range(count)}
    assert ledger.place("new", need(25), costs) == Evict(("e00", "e01", "e02"), (RAM,))
