"""What operators see of a herd, as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from server.engines.ledger import RAM, Ledger, Need
from server.engines.memory import Meter
from server.engines.replicas import Replicas
from server.engines.slot import EngineSlot
from server.engines.tenure import Tenure
from server.generation.herd import Herd
from server.generation.hosted import HostedModel
from server.generation.keeper import RegistryKeeper

Measured = Mapping[EngineSlot, Mapping[str, int]]
# What grows by itself: no news.
_CLOCKS: Final = frozenset({"idle_seconds", "retry_after_seconds"})


def engine_list(herd: Herd, keeper: RegistryKeeper, measured: Measured) -> dict[str, Any]:
    """Every engine, and what is set aside."""
    return {
        "object": "list",
        "data": [engine_body(herd, keeper, engines, measured) for engines in herd.engines()],
        "shadowed": set_aside(keeper),
    }


def set_aside(keeper: RegistryKeeper) -> list[dict[str, Any]]:
    """Added entries that are not served."""
    return [asdict(entry) for entry in keeper.set_aside]


def engine_body(
    herd: Herd, keeper: RegistryKeeper, engines: Replicas, measured: Measured
) -> dict[str, Any]:
    """One engine, or the replicas of one, with its models."""
    state, models = engines.state, herd.models_of(engines)
    options = engines.slots[0].options
    replicas = [_replica(slot, models, herd.pool.ledger, measured) for slot in engines.slots]
    return {
        "id": engines.name,
        "object": "engine",
        "models": [_hosted(model, keeper) for model in models],
        "status": state.status,
        "detail": state.detail or None,
        "since": state.since,
        "pinned": options.pinned,
        "idle_timeout": options.idle_timeout,
        "requests": {"running": state.requests, "waiting": state.waiting},
        "tokens_per_second": round(sum(r["tokens_per_second"] for r in replicas), 1),
        "replicas": replicas,
    }


def memory_body(herd: Herd) -> dict[str, Any]:
    """Devices, and what engines hold of them; those that are leaving too."""
    ledger = herd.pool.ledger
    return {
        "object": "memory",
        "devices": [
            {
                "id": device,
                "budget": budget,
                "held": ledger.held(device),
                "free": ledger.free(device),
            }
            for device, budget in ledger.budgets.items()
        ],
        "holdings": [
            {
                "engine": slot.name,
                "status": slot.status,
                "leaving": slot.retired,
                "held": dict(ledger.holdings[slot.key]),
            }
            for slot in herd.pool.slots
            if slot.key in ledger.holdings
        ],
    }


def news_of(body: Any) -> Any:
    """``body`` without what changes though nothing happens."""
    if isinstance(body, dict):
        return {key: news_of(value) for key, value in body.items() if key not in _CLOCKS}
    return [news_of(item) for item in body] if isinstance(body, list) else body


async def measure(meter: Meter, engines: Sequence[Replicas]) -> Measured:
    """What engines hold of their devices now, where that can be told."""
    tenures = {
        slot: slot.tenure for item in engines for slot in item.slots if slot.tenure is not None
    }

    def look() -> Measured:
        return {slot: held for slot, tenure in tenures.items() if (held := _held(meter, tenure))}

    # In a thread: nvidia-smi takes its time, and so does the kernel to count pages.
    return await asyncio.to_thread(look)


def _held(meter: Meter, tenure: Tenure) -> dict[str, int]:
    pids = tenure.engine.pids
    if not pids:
        return {}
    found = {RAM: meter.used(pids)}
    for device in tenure.devices:
        size = None if device == RAM else meter.used_on(device, pids)
        if size is not None:
            found[device] = size
    return found


def _hosted(model: HostedModel, keeper: RegistryKeeper) -> dict[str, Any]:
    entry, state = model.entry, model.state
    return {
        "id": entry.id,
        "aliases": entry.aliases,
        "description": entry.description,
        "kind": entry.kind,
        "base": entry.base,
        "load": entry.load,
        "status": state.status,
        "detail": state.detail or None,
        "added": keeper.is_added(entry.id),
    }


def _replica(
    slot: EngineSlot, models: Sequence[HostedModel], ledger: Ledger, measured: Measured
) -> dict[str, Any]:
    tenure, state = slot.tenure, slot.state
    return {
        "status": state.status,
        "detail": state.detail or None,
        "since": state.since,
        "devices": [] if tenure is None else list(tenure.devices),
        "memory": {
            "held": dict(ledger.holdings.get(slot.key, {})),
            "need": None if slot.need is None else _need(slot.need),
            "measured": dict(measured[slot]) if slot in measured else None,
        },
        "requests": {"running": state.requests, "waiting": state.waiting},
        "tokens_per_second": 0.0 if tenure is None else round(tenure.tokens_per_second, 1),
        "load_seconds": _seconds(slot.load_seconds),
        "idle_seconds": _seconds(slot.idle_seconds),
        "failures": slot.failures,
        "retry_after_seconds": _seconds(slot.retry_in),
        "progress": _progress(slot, models),
    }


def _need(need: Need) -> dict[str, int]:
    return {
        "weights": need.weights,
        "kv_cache": need.kv_cache,
        "adapters": need.adapters,
        "overhead": need.overhead,
        "loading": need.loading,
        "devices": need.devices,
        "host": need.host,
    }


def _progress(slot: EngineSlot, models: Sequence[HostedModel]) -> dict[str, Any] | None:
    if slot.status != "loading":
        return None
    stages = (model.fetching for model in models)
    stage = next((stage for stage in stages if stage is not None), None)
    return {
        "stage": slot.state.detail if stage is None else stage.name,
        "done": 0 if stage is None else stage.done,
        "total": None if stage is None else stage.total,
        "unit": "" if stage is None else stage.unit,
        "expected_seconds": _seconds(slot.load_seconds),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
