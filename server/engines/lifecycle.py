"""What is done to one engine: load, watch, put to sleep, wake, stop, give up for lost.

Each step keeps the ledger true: what an engine takes is written down before it takes it, and struck
out after its process has ended. When a step is due is `pool`'s to decide.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Literal, Protocol, TypeVar

import structlog

from server.engines.base import Engine
from server.engines.ledger import RAM, Holding, Ledger, Need
from server.engines.slot import EngineSlot, cause
from server.engines.states import Clock
from server.engines.tenure import Tenure
from server.engines.vigil import Patience, until_lost
from server.errors import CorralError, EngineDied, ModelUnloaded

log = structlog.get_logger(__name__)
T = TypeVar("T")

MIB = 1 << 20
# What an engine that sleeps still holds of a GPU: CUDA's context and kernels.
_ASLEEP_BYTES = 700 * MIB


class Memory(Protocol):
    """Measures what engines hold and give back."""

    async def resident(self, tenure: Tenure, need: Need) -> Holding:
        """What an engine that was just loaded is to be counted with, device by device."""

    async def stopping(self, tenure: Tenure) -> Any:
        """Called before an engine is stopped; what it returns is handed to `missing`."""

    async def missing(self, parting: Any) -> int:
        """Bytes that an engine did not give back, once it has been stopped."""


class TrustedMemory:
    """Believes the plan: nothing is measured."""

    async def resident(self, tenure: Tenure, need: Need) -> Holding:
        """As planned."""
        return need.on(tenure.devices)

    async def stopping(self, tenure: Tenure) -> None:
        """Remember nothing."""

    async def missing(self, parting: None) -> int:  # noqa: ARG002 - the protocol's name
        """None."""
        return 0


class _GivenUp(Exception):
    """A load was ended because nobody wants it any more."""


class Lifecycle:
    """The steps, for all slots of one pool.

    Args:
        ledger: What engines hold.
        patience: When an engine counts as hung.
        memory: Measures what they hold and give back.
        wake: Called when something has ended that others may be waiting for.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        ledger: Ledger,
        patience: Patience,
        memory: Memory,
        *,
        wake: Callable[[], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self.patience = patience
        self._ledger = ledger
        self._memory = memory
        self._wake = wake
        self._clock = clock
        self._preparing: dict[EngineSlot, asyncio.Task[None]] = {}
        self._loading: dict[EngineSlot, asyncio.Task[Engine]] = {}
        self._watching: dict[EngineSlot, asyncio.Task[None]] = {}
        self._cleaning: dict[EngineSlot, asyncio.Task[None]] = {}

    @property
    def cleaning(self) -> Collection[EngineSlot]:
        """Slots whose lost engine is being cleared away."""
        return self._cleaning.keys()

    def is_loading(self, slot: EngineSlot) -> bool:
        """Whether its files are being brought, or its engine is being started."""
        return slot in self._preparing or slot in self._loading

    def prepare(self, slot: EngineSlot) -> None:
        """Find out what the engine takes; that may bring its files first, beside other work."""
        if slot not in self._preparing:
            if slot.status != "restarting":
                slot.enter("loading", "starting")
            self._begin(self._preparing, slot, self._find_need(slot))

    async def _find_need(self, slot: EngineSlot) -> None:
        again = slot.status == "restarting"
        try:
            slot.need = await slot.loader.need(slot.report)
        except asyncio.CancelledError:
            self._load_failed(slot, _GivenUp(), again=again)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the model failed
            self._load_failed(slot, error, again=again)

    async def bring(self, slot: EngineSlot, devices: tuple[str, ...]) -> None:
        """Load the engine, or wake it where it sleeps."""
        if slot.tenure is not None:
            await self._rouse(slot, slot.tenure)
            return
        need = slot.need
        assert need is not None
        self._ledger.hold(slot.key, need.on(devices, loading=True))
        again = slot.status == "restarting"
        slot.enter("loading", "starting the engine")
        began = self._clock()
        task = self._begin(self._loading, slot, slot.loader.load(devices, slot.report))
        await asyncio.wait([task], timeout=self.patience.load)
        overdue = not task.done()
        if overdue:
            task.cancel()
            await asyncio.wait([task])
        if (error := _error(task, overdue=overdue)) is not None:
            self._ledger.release(slot.key)
            self._load_failed(slot, error, again=again)
            return
        now = self._clock()
        slot.load_seconds = now - began
        tenure = Tenure(task.result(), devices, loaded_at=now, used_at=now)
        self._ledger.hold(slot.key, await self._memory.resident(tenure, need))
        slot.began(tenure)
        self._watch(slot, tenure)

    def _load_failed(self, slot: EngineSlot, error: BaseException, *, again: bool) -> None:
        if isinstance(error, _GivenUp):
            slot.ended("unloaded")
            slot.turn_away(lambda: ModelUnloaded(slot.name))
            return
        unforeseen = None if isinstance(error, CorralError) else error
        log.warning("loading failed", model=slot.name, error=cause(error), exc_info=unforeseen)
        slot.failed(error, again=again)

    async def lull(self, slot: EngineSlot, level: Literal[1, 2]) -> None:
        """Have the engine sleep; nobody may hold it."""
        tenure, need = slot.tenure, slot.need
        assert tenure is not None
        assert need is not None
        slot.enter("unloading", "going to sleep")
        self._unwatch(slot)
        try:
            await tenure.engine.sleep(level)
        except EngineDied as error:
            self.lost(slot, tenure, cause(error))
            return
        tenure.asleep = True
        host = need.host + (need.weights * need.devices if level == 1 else 0)
        self._ledger.hold(slot.key, dict.fromkeys(tenure.devices, _ASLEEP_BYTES) | {RAM: host})
        slot.drain_until = None
        slot.enter("sleeping", f"level {level}")

    async def _rouse(self, slot: EngineSlot, tenure: Tenure) -> None:
        assert slot.need is not None
        self._ledger.hold(slot.key, slot.need.on(tenure.devices))
        slot.enter("loading", "waking up")
        try:
            await tenure.engine.wake()
        except EngineDied as error:
            self.lost(slot, tenure, cause(error))
            return
        tenure.asleep = False
        tenure.loaded_at = tenure.used_at = self._clock()
        slot.began(tenure)
        self._watch(slot, tenure)

    async def stop(self, slot: EngineSlot) -> None:
        """Stop the engine and see its memory come back; whoever holds it loses it."""
        tenure = slot.tenure
        if tenure is None:
            return
        self._unwatch(slot)
        slot.enter("unloading", "stopping the engine")
        tenure.evicted = bool(tenure.running)
        parting = await self._memory.stopping(tenure)
        await tenure.engine.stop()
        self._ledger.release(slot.key)
        missing = await self._memory.missing(parting)
        detail = ""
        if missing:
            detail = f"{mib(missing)} MiB did not come back when it was unloaded"
            log.warning("memory did not come back", model=slot.name, mib=mib(missing))
        slot.ended("unloaded", detail)

    def lost(self, slot: EngineSlot, tenure: Tenure, reason: str) -> None:
        """An engine died or hangs: end it, free its memory, and have it loaded again."""
        if slot.tenure is not tenure:
            return
        log.warning("engine lost", model=slot.name, reason=reason, requests=tenure.running)
        self._unwatch(slot)
        slot.proved(self._clock())
        # First, so that requests under way learn of it now and not when it has been cleared away.
        tenure.engine.kill()
        slot.failed(EngineDied(f"The engine of '{slot.name}' was lost: {reason}."), again=True)

        async def clear_away() -> None:
            await tenure.engine.stop()
            self._ledger.release(slot.key)

        self._begin(self._cleaning, slot, clear_away())

    def give_up(self, slot: EngineSlot) -> None:
        """End a load that nobody wants any more."""
        for task in (self._preparing.get(slot), self._loading.get(slot)):
            if task is not None:
                task.cancel()

    async def close(self, slots: Sequence[EngineSlot]) -> None:
        """End everything that is under way, and every engine."""
        groups: Sequence[dict[EngineSlot, asyncio.Task[Any]]]
        groups = (self._preparing, self._loading, self._watching, self._cleaning)
        await cancelled([task for group in groups for task in group.values()])
        await asyncio.gather(*(self.stop(slot) for slot in slots))

    def _watch(self, slot: EngineSlot, tenure: Tenure) -> None:
        async def watch() -> None:
            reason = await until_lost(tenure, self.patience, clock=self._clock)
            self._watching.pop(slot, None)
            self.lost(slot, tenure, reason)

        self._begin(self._watching, slot, watch())

    def _unwatch(self, slot: EngineSlot) -> None:
        if task := self._watching.pop(slot, None):
            task.cancel()

    def _begin(
        self,
        tasks: dict[EngineSlot, asyncio.Task[T]],
        slot: EngineSlot,
        work: Coroutine[Any, Any, T],
    ) -> asyncio.Task[T]:
        """Run something beside the pool, which looks again when it has ended."""

        def done(task: asyncio.Task[T]) -> None:
            if tasks.get(slot) is task:
                del tasks[slot]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.debug("ended with an error", what=task.get_name(), error=cause(error))
            self._wake()

        task = asyncio.create_task(work, name=slot.key)
        tasks[slot] = task
        task.add_done_callback(done)
        return task


def mib(size: int) -> int:
    """Bytes in MiB, rounded up."""
    return -(-size // MIB)


async def cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _error(task: asyncio.Task[Any], *, overdue: bool) -> BaseException | None:
    if overdue:
        return EngineDied("Loading took too long.")
    return _GivenUp() if task.cancelled() else task.exception()
