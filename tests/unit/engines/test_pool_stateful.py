"""Whatever callers, operators and engines do, in any order: no request is lost, the sums are right.

Hypothesis plays callers that come and go, operators, engines that die, hang or fail to load, and
time that passes; in virtual time, so that hours take no time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from structlog.testing import capture_logs

from server.engines.ledger import RAM, Holding, Ledger
from server.engines.slot import EngineSlot
from server.engines.states import SlotOptions, SlotRetired
from server.errors import EngineDied, ModelEvicted, ModelFailed, ModelLoading, ModelUnloaded
from tests.support.stable import Stable, Stall, use
from tests.support.virtual_time import VirtualLoop

T = TypeVar("T")
BUDGET = 100
POLICY = {"max_wait": 30.0, "min_residency": 10.0, "drain": 20.0}
# How a request may end; anything else is a request lost.
ENDINGS = (EngineDied, ModelEvicted, ModelFailed, ModelLoading, ModelUnloaded, SlotRetired)

WHICH = st.integers(0, 3)


class CheckedLedger(Ledger):
    """Remembers, of all entries, the most that was promised."""

    most = 0

    def hold(self, name: str, holding: Holding) -> None:
        super().hold(name, holding)
        self.most = max(self.most, self.held(RAM))


class Herd(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(st.integers(10, 90), min_size=4, max_size=4),
        loading=st.lists(st.integers(0, 10), min_size=4, max_size=4),
    )
    def begin(self, sizes: list[int], loading: list[int]) -> None:
        self.loop = VirtualLoop()
        Stall.at_once = 0
        self.stalls = [Stall(size, loading=more) for size, more in zip(sizes, loading, strict=True)]
        self.requests: list[asyncio.Task[Any]] = []
        self.began: dict[asyncio.Task[Any], float] = {}

        async def make() -> None:
            self.stable = Stable(BUDGET, **POLICY)
            self.ledger = CheckedLedger({RAM: BUDGET})
            self.stable.ledger = self.stable.pool.ledger = self.ledger
            self.stable.pool._life._ledger = self.ledger
            self.slots = [self.stable.add(str(n), stall) for n, stall in enumerate(self.stalls)]

        # The pool survives its own mistakes and logs them.
        self.capture = capture_logs()
        self.logs = self.capture.__enter__()
        self._do(make())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def _call(self, action: Callable[[], object]) -> None:
        async def call() -> None:
            action()

        self._do(call())

    @rule(which=WHICH, seconds=st.floats(0, 60), patience=st.sampled_from([5.0, 1000.0]))
    def ask(self, which: int, seconds: float, patience: float) -> None:
        async def begin() -> None:
            slot = self.slots[which]
            task = asyncio.create_task(use(slot, seconds, wait=patience))
            self.requests.append(task)
            self.began[task] = self.loop.time()
            task.add_done_callback(self._ended)

        self._do(begin())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            error = task.exception()
            assert error is None or isinstance(error, ENDINGS), repr(error)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.requests))
        self._call(task.cancel)

    @rule(seconds=st.sampled_from([0.05, 1.0, 7.0, 45.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        for engine in self.stalls[which].engines[-1:]:
            self._call(engine.kill)

    @rule(which=WHICH)
    def hang(self, which: int) -> None:
        for engine in self.stalls[which].engines[-1:]:
            engine.hangs = True

    @rule(which=WHICH, broken=st.booleans())
    def break_loading(self, which: int, broken: bool) -> None:
        self.stalls[which].error = EngineDied("it does not load") if broken else None

    @rule(which=WHICH, pinned=st.booleans(), idle=st.sampled_from([None, 20.0]))
    def change_options(self, which: int, pinned: bool, idle: float | None) -> None:
        self.slots[which].options = SlotOptions(pinned=pinned, idle_timeout=idle)

    @rule(which=WHICH)
    def want(self, which: int) -> None:
        self._call(lambda: self.stable.pool.want(self.slots[which]))

    @rule(which=WHICH)
    def unload(self, which: int) -> None:
        self._do(self.stable.pool.unload(self.slots[which]))

    @rule(which=WHICH)
    def replace(self, which: int) -> None:
        def change() -> None:
            self.stable.pool.retire(self.slots[which])
            self.slots[which] = self.stable.add(str(which), self.stalls[which])

        self._call(change)

    @invariant()
    def one_load_at_a_time(self) -> None:
        assert Stall.at_once <= 1

    @invariant()
    def the_machine_is_not_promised_twice(self) -> None:
        if hasattr(self, "stable"):
            assert self.ledger.most <= BUDGET

    @invariant()
    def the_pool_makes_no_mistakes(self) -> None:
        if hasattr(self, "stable"):
            assert [line for line in self.logs if line["event"] == "the pool failed"] == []

    @invariant()
    def the_ledger_knows_every_engine(self) -> None:
        if not hasattr(self, "stable"):
            return
        held = self.stable.ledger.holdings
        for slot in self.stable.pool.slots:
            if slot.tenure is not None:
                need = slot.need
                assert need is not None
                assert held[slot.key] == {RAM: need.resident}
        alive = sum(engine.alive for stall in self.stalls for engine in stall.engines)
        assert alive <= len(held), "an engine that nobody has written down"

    @invariant()
    def who_runs_is_counted(self) -> None:
        if not hasattr(self, "stable"):
            return
        counted = sum(slot.running + slot.waiting for slot in self._all_slots())
        pending = sum(not task.done() for task in self.requests)
        assert counted <= pending
        assert all(slot.running >= 0 for slot in self._all_slots())

    def _all_slots(self) -> set[EngineSlot]:
        return {*self.slots, *self.stable.pool.slots}

    def teardown(self) -> None:
        if not hasattr(self, "stable"):
            return
        for stall in self.stalls:
            stall.error = None
        # Every request has a time after which it leaves by itself.
        self._do(asyncio.sleep(1500))
        assert all(task.done() for task in self.requests), "a request that never ends"
        assert [slot.running for slot in self._all_slots() if slot.running] == []
        self._do(self.stable.pool.close())
        assert self.stable.ledger.holdings == {}
        assert not any(engine.alive for stall in self.stalls for engine in stall.engines)
        for task in self.requests:
            self._ended(task)
        self.the_pool_makes_no_mistakes()
        self.capture.__exit__(None, None, None)
        self.loop.close()


TestHerd = Herd.TestCase
TestHerd.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
