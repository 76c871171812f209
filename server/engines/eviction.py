"""Which engines may go for another one, when, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.engines.slot import EngineSlot

# An engine that was unused for so long costs half as much to evict.
_HALF_LIFE_S = 60.0
# Before a first load nobody knows how long one takes.
_LOAD_GUESS_S = 10.0
# Evicting a busy engine costs more than any number of idle ones.
_BUSY = 1e6


@dataclass(frozen=True, slots=True)
class SwapPolicy:
    """When one engine may displace another, in seconds.

    Args:
        max_wait: How long a busy engine may keep another one waiting.
        min_residency: How long a loaded engine may stay at least while it is in use.
        drain: How long requests may go on in an engine that has to go.
        grace: How long an engine within its minimum residency must be unused to be called idle.
    """

    max_wait: float = 30.0
    min_residency: float = 10.0
    drain: float = 30.0
    grace: float = 2.0


def evictable(newcomer: EngineSlot, slots: Iterable[EngineSlot], now: float) -> dict[str, float]:
    """What it costs to evict each engine that may go for ``newcomer``, by its slot's key."""
    if not newcomer.waiting:
        return {}
    return {
        slot.key: _cost(slot, now)
        for slot in slots
        if slot is not newcomer
        and slot.tenure is not None
        and (not slot.options.pinned or slot.retired)
    }


def _cost(slot: EngineSlot, now: float) -> float:
    """Seconds of loading, weighed by how recently the engine was used."""
    assert slot.tenure is not None
    if slot.retired or slot.status == "draining":
        return 0.0
    seconds = _LOAD_GUESS_S if slot.load_seconds is None else slot.load_seconds
    if slot.running:
        return _BUSY * (1 + slot.running) + seconds
    recency: float = 0.5 ** (slot.tenure.idle(now) / _HALF_LIFE_S)
    return seconds * recency


def may_go(slot: EngineSlot, now: float, policy: SwapPolicy) -> bool:
    """Whether an engine is idle enough to be evicted at once."""
    tenure = slot.tenure
    if tenure is None or slot.running:
        return tenure is None
    unused = tenure.idle(now) > policy.grace
    settled = now - tenure.loaded_at > policy.min_residency
    return unused or settled or slot.retired or tenure.asleep
