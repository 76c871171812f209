"""``corral models plan``: what each engine takes, what fits, what has to go for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.text import Text

from server.commands.forecast import Forecast, Prospect, forecast, lacking
from server.commands.inventory import open_registry, open_store, take_stock
from server.commands.listen import PortError, PortOwner, port_owner
from server.commands.models import print_json
from server.console import columns, out
from server.engines.hardware import Hardware, probe
from server.engines.ledger import RAM, Evict, Fits, HeldBack, NeverFits, Verdict
from server.registry.values import format_bytes
from server.settings import Settings

_HEADER = ("engine", "devices", "weights", "KV cache", "tokens", "adapters", "overhead", "total")


def plan_models(settings: Settings, *, as_json: bool, hardware: Hardware | None = None) -> int:
    """Print it without starting anything.

    Args:
        hardware: The machine; None looks at this one.

    Returns:
        1 if an engine whose files are here can never be loaded, else 0.
    """
    registry, store = open_registry(settings), open_store(settings)
    stocks = take_stock(registry, store)
    seen = forecast(registry, stocks, hardware or probe(), store, _owner(settings))
    if as_json:
        print_json(_as_json(seen))
    else:
        _show(seen)
    return 1 if any(engine.here and not engine.runs for engine in seen.engines) else 0


def _owner(settings: Settings) -> PortOwner | None:
    try:
        return port_owner(settings.host, settings.port)
    except PortError:
        return None


def _show(seen: Forecast) -> None:
    planned = [engine for engine in seen.engines if engine.plan is not None]
    if planned:
        rows = [(*_HEADER, "while loading"), *map(_row, planned)]
        columns(out, rows, header=True)
        out.print()
    columns(out, [*_budgets(seen)])
    out.print()
    for engine in seen.engines:
        _line(engine, seen)
    if not seen.together:
        out.print(Text("They cannot all be loaded at once.", style="yellow"))


def _row(engine: Prospect) -> tuple[str, ...]:
    assert engine.plan is not None
    plan, need = engine.plan, engine.plan.need
    gpus = "a GPU" if need.devices == 1 else f"each of {need.devices} GPUs"
    return (
        engine.name,
        RAM if plan.device == "cpu" else gpus,
        format_bytes(need.weights),
        format_bytes(need.kv_cache),
        "-" if plan.kv_tokens is None else f"{plan.kv_tokens:,}",
        format_bytes(need.adapters) if need.adapters else "-",
        format_bytes(need.overhead),
        format_bytes(need.resident),
        format_bytes(need.peak),
    )


def _budgets(seen: Forecast) -> Iterator[tuple[str, str, str]]:
    for device, size in seen.budgets.items():
        if device == RAM and len(seen.budgets) > 1:
            continue  # where there are GPUs, engines run on these
        why = "herd.memory" if device in seen.said else "what is free now, less a reserve"
        yield f"budget of {device}", format_bytes(size), why


def _line(engine: Prospect, seen: Forecast) -> None:
    others = f" (and {', '.join(engine.models[1:])})" if engine.models[1:] else ""
    what, style = _outlook(engine, seen)
    out.print(Text.assemble((engine.name, "bold"), others, ": ", (what, style)), soft_wrap=True)


def _outlook(engine: Prospect, seen: Forecast) -> tuple[str, str]:
    """What becomes of an engine, and how to print it."""
    if engine.problem:
        return f"cannot run. {engine.problem}", "red"
    if not engine.here:
        return f"unknown, its files are not here: corral models fetch {engine.name}", "yellow"
    match engine.verdict:
        case NeverFits():
            return f"never fits, by {lacking(engine.verdict)}", "red"
        case Evict(names=names, devices=devices):
            late = "no room at the start; " if engine.at_start else ""
            return f"{late}displaces {', '.join(names)} from {', '.join(devices)}", "yellow"
        case Fits(devices=devices):
            loaded = engine.name in seen.started
            when = "loaded at the start" if loaded else "fits beside those loaded at the start"
            return f"{when}, on {', '.join(devices)}", ""
        case HeldBack() | None:
            pinned = [other.name for other in seen.engines if other.pinned and other is not engine]
            if pinned:
                return f"no room beside what is pinned: {', '.join(pinned)}", "red"
            if engine.replica > 1:
                return "no room beside the other replicas", "yellow"
            return "has to wait for those loaded at the start", "yellow"


def _as_json(seen: Forecast) -> dict[str, Any]:
    return {
        "budgets": dict(seen.budgets),
        "engines": [_engine_json(engine, seen) for engine in seen.engines],
        "loaded_at_start": [*seen.started],
        "no_room_at_start": [engine.name for engine in seen.left_out],
        "all_fit_together": seen.together,
    }


def _engine_json(engine: Prospect, seen: Forecast) -> dict[str, Any]:
    """Sizes in bytes, on each of its devices."""
    plan = engine.plan
    sizes: dict[str, Any] | None = None
    if plan is not None:
        need = plan.need
        names = ("weights", "kv_cache", "adapters", "overhead", "loading", "devices", "host")
        sizes = {name: asdict(need)[name] for name in names}
        sizes |= {"total": need.resident, "peak": need.peak, "kv_tokens": plan.kv_tokens}
    return {
        "models": list(engine.models),
        "replica": engine.replica,
        "pinned": engine.pinned,
        "load": "startup" if engine.at_start else "on_demand",
        "files_here": engine.here,
        "problem": engine.problem or None,
        "need": sizes,
        "verdict": _verdict_json(engine.verdict),
        "loaded_at_start": engine.name in seen.started,
    }


def _verdict_json(verdict: Verdict | None) -> dict[str, Any] | None:
    match verdict:
        case Fits(devices=devices):
            return {"kind": "fits", "devices": list(devices)}
        case Evict(names=names, devices=devices):
            return {"kind": "evict", "devices": list(devices), "evict": list(names)}
        case HeldBack(short=short):
            return {"kind": "wait", "short": short}
        case NeverFits(short=short, devices_missing=missing):
            return {"kind": "never", "short": short, "devices_missing": missing}
        case None:
            return None
