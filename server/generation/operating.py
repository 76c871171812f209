"""What people who run a server have done to its engines, whatever requests ask for.

Operators name models; what is done concerns the engine behind one, and so every model that shares
it. Engines may change places while somebody waits, when the registry changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Literal
from weakref import WeakKeyDictionary

import structlog

from server.engines.slot import EngineSlot
from server.engines.states import SlotRetired
from server.errors import CorralError
from server.generation.herd import Herd

log = structlog.get_logger(__name__)

# Operators wait for as long as a load takes; bringing files may take hours.
_FOR_EVER_S: Final = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Pin:
    """An operator's word on an engine, and what the registry said of it then."""

    pinned: bool
    registry: bool


class Operator:
    """Operates the engines of a herd.

    Args:
        herd: The models.
    """

    def __init__(self, herd: Herd) -> None:
        self._herd = herd
        self._pins: WeakKeyDictionary[EngineSlot, _Pin] = WeakKeyDictionary()
        self._begun: set[asyncio.Task[None]] = set()

    async def load(self, name: str) -> None:
        """Load a model, or wake it, making room as for a request; returns when it is ready.

        Raises:
            ModelNotFound: There is none of this id or alias.
            ModelUnavailable: It cannot be loaded, or somebody unloaded it meanwhile.
        """

        async def one(slot: EngineSlot) -> None:
            # Forgets former failures, and goes on when who waits for it leaves.
            self._herd.pool.want(slot)
            with await slot.acquire(wait_seconds=_FOR_EVER_S):
                pass

        await self._each(name, one)

    async def unload(self, name: str) -> None:
        """Let a model finish what runs, and unload it; returns when it is gone.

        Raises:
            ModelNotFound: There is none of this id or alias.
        """
        await self._each(name, self._herd.pool.unload)

    async def sleep(self, name: str, level: Literal[1, 2]) -> None:
        """Let a model finish what runs, and have it sleep; where it cannot, it is unloaded.

        Raises:
            ModelNotFound: There is none of this id or alias.
        """
        await self._each(name, lambda slot: self._herd.pool.sleep(slot, level))

    async def restart(self, name: str) -> None:
        """Unload a model as `unload` does, and load it again as `load` does.

        Raises:
            ModelNotFound, ModelUnavailable: See `load`.
        """
        await self.unload(name)
        await self.load(name)

    async def pin(self, name: str, *, pinned: bool) -> None:
        """Keep a model's engine from being unloaded by itself, or let go of it.

        Lasts until the server ends, or the registry says something new about it.

        Raises:
            ModelNotFound: There is none of this id or alias.
        """
        for slot in self._herd.resolve(name).engines.slots:
            known = self._pins.get(slot)
            registry = slot.options.pinned if known is None else known.registry
            self._pins[slot] = _Pin(pinned, registry)
            slot.options = replace(slot.options, pinned=pinned)
        self._herd.pool.wake()

    def reapply_pins(self) -> None:
        """To be called when the registry has been replaced, and with it what it says of pins."""
        for slot, pin in list(self._pins.items()):
            if slot.options.pinned != pin.registry:
                del self._pins[slot]
            else:
                slot.options = replace(slot.options, pinned=pin.pinned)

    def begin(self, work: Awaitable[None]) -> None:
        """Have something done without waiting for it; the engine's state tells how it went."""
        task = asyncio.create_task(_logged(work))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def close(self) -> None:
        """Give up what has been begun."""
        for task in list(self._begun):
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)

    async def _each(self, name: str, work: Callable[[EngineSlot], Awaitable[None]]) -> None:
        """Do something to every engine of a model, at the same time."""
        while True:
            engines = self._herd.resolve(name).engines
            try:
                await asyncio.gather(*map(work, engines.slots))
            except SlotRetired:  # others serve the model from now on
                continue
            return


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except CorralError as error:
        log.info("an operator's wish was in vain", error=str(error))
