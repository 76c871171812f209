"""Which engines are loaded: one load at a time, room made for who waits, the lost revived.

The rules, in the order in which they count:

- Whoever has waited longest is served first. Engines that are only to be preloaded come after all
  that have requests waiting, and displace nobody.
- An engine that fits is loaded. One that does not displaces idle engines, the cheapest first: the
  time that loading them again takes, weighed by how recently each was used. A freshly loaded engine
  counts as idle only when it has been unused for a moment, so that two that do not fit together
  don't thrash.
- A busy engine is left alone until the newcomer has waited ``max_wait`` and the engine has been
  there for ``min_residency``. Then it is drained: it finishes what runs, and new requests queue up.
  After ``drain`` seconds it goes anyway. Nothing else is loaded meanwhile, so that small engines
  cannot starve a large one.
- So a request waits for at most the longer of ``max_wait`` and ``min_residency``, then ``drain``
  and its own load, and as long again for every engine whose requests came before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import structlog

from server.engines.eviction import SwapPolicy, evictable, may_go
from server.engines.ledger import RAM, Evict, Fits, HeldBack, Ledger, Need, NeverFits
from server.engines.lifecycle import Lifecycle, Memory, TrustedMemory, cancelled, mib
from server.engines.slot import EngineSlot
from server.engines.states import Clock, EngineLoader, SlotOptions
from server.engines.vigil import Patience
from server.errors import EngineDied, ModelFailed

log = structlog.get_logger(__name__)

# How often slots are looked at without a reason: while somebody waits, and otherwise.
_TICK_S, _REST_S = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class _Order:
    """What an operator wants done to a slot."""

    action: Literal["unload", "sleep"]
    level: Literal[1, 2]
    done: asyncio.Event


class Pool:
    """Engines that share a machine.

    Args:
        ledger: What fits.
        policy: When engines displace each other; may be changed at any time.
        patience: When an engine counts as hung.
        memory: Measures what engines hold and give back.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        ledger: Ledger,
        policy: SwapPolicy | None = None,
        *,
        patience: Patience | None = None,
        memory: Memory | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self.policy = policy or SwapPolicy()
        self._clock = clock
        self._life = Lifecycle(
            ledger, patience or Patience(), memory or TrustedMemory(), wake=self.wake, clock=clock
        )
        self._slots: dict[str, EngineSlot] = {}
        self._orders: dict[EngineSlot, _Order] = {}
        self._woken = asyncio.Event()
        self._scheduler: asyncio.Task[None] | None = None
        self._closed = False

    # What others call -----------------------------------------------------------------------

    def add(
        self, name: str, loader: EngineLoader, options: SlotOptions | None = None
    ) -> EngineSlot:
        """A new slot; nothing is loaded yet.

        Args:
            name: The model's; other slots may have the same.
        """
        key = next(key for number in count(1) if (key := _key(name, number)) not in self._slots)
        options = options or SlotOptions()
        slot = EngineSlot(name, loader, options, key=key, wake=self.wake, clock=self._clock)
        self._slots[key] = slot
        return slot

    @property
    def slots(self) -> Sequence[EngineSlot]:
        """All slots, those that are being retired among them."""
        return tuple(self._slots.values())

    @property
    def hopeless(self) -> bool:
        """Whether every engine has failed for good, so that nothing can be served."""
        return bool(self._slots) and all(slot.hopeless for slot in self._slots.values())

    def wake(self) -> None:
        """Look at the slots now; must be called on the event loop."""
        self._woken.set()
        if self._scheduler is None and not self._closed:
            self._scheduler = asyncio.create_task(self._run(), name="pool")

    def want(self, slot: EngineSlot) -> None:
        """Load ``slot`` when there is room for it, displacing nobody."""
        if slot.engine is None and not self._closed:
            slot.failures, slot.not_before = 0, 0.0
            slot.wanted_since = self._clock()
            if slot.tenure is None and not self._life.is_loading(slot):
                slot.enter("loading", "starting")
        self.wake()

    async def unload(self, slot: EngineSlot) -> None:
        """Drain and unload an engine; returns when it is gone."""
        await self._ordered(slot, "unload", 1)

    async def sleep(self, slot: EngineSlot, level: Literal[1, 2]) -> None:
        """Drain an engine and have it sleep, or unload it where it cannot."""
        await self._ordered(slot, "sleep", level)

    async def restart(self, slot: EngineSlot) -> None:
        """Drain and unload an engine, and begin to load it again."""
        await self._ordered(slot, "unload", 1)
        self.want(slot)

    def retire(self, slot: EngineSlot) -> None:
        """Have the slot finish what runs there, and forget it."""
        slot.retire()
        self._life.give_up(slot)
        self.wake()

    async def close(self) -> None:
        """Stop every engine; nothing is loaded from now on."""
        self._closed = True
        for slot in self.slots:
            slot.close()
        # The scheduler first: it must not begin anything while the rest ends.
        await cancelled([self._scheduler] if self._scheduler else [])
        await self._life.close(self.slots)
        for order in self._orders.values():
            order.done.set()

    async def _ordered(
        self, slot: EngineSlot, action: Literal["unload", "sleep"], level: Literal[1, 2]
    ) -> None:
        before = self._orders.get(slot)
        order = _Order(action, level, before.done if before else asyncio.Event())
        self._orders[slot] = order
        slot.wanted_since = None
        # At once: the scheduler itself waits for a load.
        self._life.give_up(slot)
        self.wake()
        await order.done.wait()

    # The scheduler --------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                acted = await self._advance()
            except Exception:
                log.exception("the pool failed")
                acted = False
            if not acted:
                hurry = self._orders or any(s.demanded_since is not None for s in self.slots)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S if hurry else _REST_S):
                        await self._woken.wait()

    async def _advance(self) -> bool:
        """Do the next thing that can be done; False if there is none."""
        self._notice_losses()
        if await self._obey():
            return True
        drained: Collection[EngineSlot] = ()
        for slot in self._queue():
            acted, drained = await self._serve(slot)
            if acted:
                return True
            if drained:  # what they leave belongs to this one
                break
        for slot in self.slots:
            kept = slot not in drained and slot not in self._orders and not slot.retired
            if slot.status == "draining" and kept:
                slot.reopened()
        return await self._tidy()

    def _notice_losses(self) -> None:
        for slot in self.slots:
            if slot.tenure is not None and not slot.tenure.engine.alive:
                self._life.lost(slot, slot.tenure, "its process ended")

    async def _obey(self) -> bool:
        """Carry out what an operator ordered; whether something was done."""
        for slot, order in list(self._orders.items()):
            tenure = slot.tenure
            if tenure is not None and not tenure.asleep:
                self._drain(slot, "finishing what runs")
                if self._drains(slot):
                    continue
            rest = order.action == "sleep" and tenure is not None and not tenure.running
            if rest and tenure is not None and tenure.engine.can_sleep:
                await self._life.lull(slot, order.level)
            else:
                await self._life.stop(slot)
            del self._orders[slot]
            order.done.set()
            return True
        return False

    def _queue(self) -> list[EngineSlot]:
        """Slots to be loaded, in the order in which they are served."""
        now = self._clock()
        asking = [
            slot
            for slot in self.slots
            if slot.demanded_since is not None
            and (slot.tenure is None or slot.tenure.asleep)
            and slot not in self._life.cleaning
            and slot.not_before <= now
        ]
        return sorted(asking, key=lambda slot: (not slot.waiting, slot.demanded_since or 0.0))

    async def _serve(self, slot: EngineSlot) -> tuple[bool, Collection[EngineSlot]]:
        """Bring ``slot`` closer to an engine.

        Returns:
            Whether something was done, and the engines that are drained for it.
        """
        need = slot.need
        if need is None:
            self._life.prepare(slot)
            return False, ()
        if slot.tenure is not None:  # it only has to wake up, where it is
            need = replace(need, loading=0)
        only = None if slot.tenure is None else slot.tenure.devices
        match self.ledger.place(
            slot.key, need, evictable(slot, self.slots, self._clock()), only=only
        ):
            case Fits(devices):
                await self._life.bring(slot, devices)
                return True, ()
            case Evict(keys, _):
                return await self._make_room(slot, [self._slots[key] for key in keys])
            case HeldBack(short):
                self._held_back(slot, short)
                return False, ()
            case NeverFits() as never:
                slot.failed(EngineDied(_never(slot.name, need, never)), again=False)
                return True, ()

    async def _make_room(
        self, slot: EngineSlot, victims: list[EngineSlot]
    ) -> tuple[bool, Collection[EngineSlot]]:
        now = self._clock()
        used = [victim for victim in victims if not may_go(victim, now, self.policy)]
        if used:
            names = ", ".join(victim.name for victim in used)
            waited_for = (slot.demanded_since or now) + self.policy.max_wait
            stays = max(victim.tenure.loaded_at for victim in used if victim.tenure)
            if now < max(waited_for, stays + self.policy.min_residency):
                slot.report(f"waiting for room: {names} in use")
                return False, ()
            for victim in used:
                self._drain(victim, f"making room for {slot.name}")
            if any(map(self._drains, used)):
                slot.report(f"waiting for {names} to finish")
                return False, victims
        for victim in victims:
            await self._put_away(victim)
        return True, ()

    def _drain(self, slot: EngineSlot, why: str) -> None:
        """Admit nobody new, and let what runs go on for a while."""
        if slot.drain_until is None:
            slot.drain_until = self._clock() + self.policy.drain
            slot.enter("draining", why)

    def _drains(self, slot: EngineSlot) -> bool:
        """Whether requests still run and may go on."""
        return bool(slot.running) and self._clock() < (slot.drain_until or 0.0)

    def _held_back(self, slot: EngineSlot, short: int) -> None:
        """There is no room, whoever may go: wait, unless waiting is in vain."""
        if self._life.cleaning:
            return
        lacks = f"lacks {mib(short)} MiB"
        if not slot.waiting:
            slot.wanted_since = None
            slot.enter("unloaded", f"{lacks} beside what is loaded; comes when it is asked for")
            return
        pinned = ", ".join(s.name for s in self.slots if s.options.pinned and s.tenure is not None)
        message = f"There is no room for '{slot.name}': it {lacks} beside pinned models ({pinned})."
        slot.turn_away(lambda: ModelFailed(slot.name, message, retry_after=30.0))
        slot.enter("unloaded", f"{lacks} beside pinned models")

    async def _put_away(self, slot: EngineSlot) -> None:
        """Evict: to sleep where that can be, else unloaded."""
        tenure, need = slot.tenure, slot.need
        if tenure is None or need is None:
            return
        rests = tenure.engine.can_sleep and not (tenure.asleep or tenure.running or slot.retired)
        if rests and self.ledger.free(RAM) >= need.weights * need.devices:
            await self._life.lull(slot, 1)
        else:
            await self._life.stop(slot)

    async def _tidy(self) -> bool:
        """Unload and forget what nobody needs; whether there was anything."""
        now = self._clock()
        for slot in self.slots:
            slot.proved(now)
            loading = slot.status == "loading" and not self._life.is_loading(slot)
            if loading and slot.demanded_since is None:  # all who waited have left
                slot.ended("unloaded")
            if slot.retired and not slot.running and slot not in self._life.cleaning:
                await self._life.stop(slot)
                self._slots.pop(slot.key, None)
                return True
            if await self._let_rest(slot, now):
                return True
        return False

    async def _let_rest(self, slot: EngineSlot, now: float) -> bool:
        """Unload an engine that has been idle for long, or have it sleep."""
        tenure, options = slot.tenure, slot.options
        if tenure is None or slot.running or options.pinned or slot.drain_until is not None:
            return False
        idle = tenure.idle(now)
        if options.idle_timeout is not None and idle >= options.idle_timeout:
            await self._life.stop(slot)
            return True
        tired = options.sleep_after is not None and idle >= options.sleep_after
        if tired and tenure.engine.can_sleep and not tenure.asleep:
            await self._life.lull(slot, options.sleep_level)
            return True
        return False


def _key(name: str, number: int) -> str:
    return name if number == 1 else f"{name}#{number}"


def _never(name: str, need: Need, verdict: NeverFits) -> str:
    if verdict.devices_missing:
        return (
            f"'{name}' needs {need.devices} GPUs, {verdict.devices_missing} more than there are. "
            "Lower tensor_parallel_size in the registry."
        )
    return (
        f"'{name}' needs {mib(need.peak)} MiB, {mib(verdict.short)} MiB more than there is for "
        "models. Raise herd.memory, or set a smaller context.length or engine.kv_cache in the "
        "registry."
    )
