"""Pools of scripted engines, for tests that run in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from server.engines.eviction import SwapPolicy
from server.engines.ledger import RAM, Ledger, Need
from server.engines.pool import Pool
from server.engines.scripted import ScriptedEngine
from server.engines.slot import EngineSlot
from server.engines.states import Report, SlotOptions
from server.engines.vigil import Patience

LOAD_S = 5.0


class Stall:
    """An `EngineLoader` of scripted engines.

    Args:
        size: What each takes, in bytes.
        loading: What each takes besides while it loads.
        host: RAM that each takes besides GPUs.

    Attributes:
        engines: Every engine made so far.
        error: Raised by the next loads.
        at_once: Loads of all stalls that are under way, and the most there ever were.
    """

    at_once = 0
    most_at_once = 0

    def __init__(
        self, size: int = 10, *, loading: int = 0, host: int = 0, can_sleep: bool = False
    ) -> None:
        self.size = size
        self.loading = loading
        self.host = host
        self.can_sleep = can_sleep
        self.engines: list[ScriptedEngine] = []
        self.error: Exception | None = None
        self.seconds = LOAD_S

    async def need(self, report: Report) -> Need:
        report("fetching the model's files")
        return Need(weights=self.size, kv_cache=0, loading=self.loading, host=self.host)

    async def load(self, devices: tuple[str, ...], report: Report) -> ScriptedEngine:
        report("working")
        Stall.at_once += 1
        Stall.most_at_once = max(Stall.most_at_once, Stall.at_once)
        try:
            engine = ScriptedEngine(lambda _: (), load_error=self.error, load_seconds=self.seconds)
            engine.can_sleep = self.can_sleep
            self.engines.append(engine)
            await engine.start()
        finally:
            Stall.at_once -= 1
        return engine


class Stable:
    """A pool with a budget, and its clock.

    Args:
        budget: Bytes, or device → bytes.
        policy: Fields of `SwapPolicy`.
    """

    def __init__(self, budget: int | dict[str, int] = 20, **policy: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.ledger = Ledger(budget if isinstance(budget, dict) else {RAM: budget})
        self.pool = Pool(
            self.ledger, SwapPolicy(**policy), patience=Patience(), clock=self.loop.time
        )

    def add(self, name: str, stall: Stall | None = None, **options: Any) -> EngineSlot:
        return self.pool.add(name, stall or Stall(), SlotOptions(**options))

    @property
    def now(self) -> float:
        """Seconds since the pool was made, to the tenth."""
        return round(self.loop.time() - self.began, 1)

    def loaded(self) -> Sequence[str]:
        """Names of the slots that have an engine."""
        return [slot.name for slot in self.pool.slots if slot.tenure is not None]


async def use(slot: EngineSlot, seconds: float = 0.0, *, wait: float = 1000.0) -> ScriptedEngine:
    """Hold the slot's engine for a while, as a request does: it fails when the engine ends."""
    with await slot.acquire(wait_seconds=wait) as engine:
        assert isinstance(engine, ScriptedEngine)
        await engine.wait(seconds)
        return engine
