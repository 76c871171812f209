"""``corral ps``: the models of a running server, and what each is doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from server.commands.models import print_json
from server.commands.running import RunningServer
from server.console import columns, out
from server.registry.values import format_bytes

_HEADER = ("model", "state", "memory", "device", "requests", "tokens/s", "what")
_NONE = "-"


def show_engines(server: RunningServer, *, as_json: bool) -> None:
    """Print one line a model; models that share an engine stand together.

    Raises:
        CorralError: See `RunningServer.get`.
    """
    body = server.get("/admin/models")
    if as_json:
        print_json(body)
        return
    rows = [row for engine in body["data"] for row in _rows(engine)]
    rows += [
        (entry["id"], "set aside", *[_NONE] * 4, entry["reason"]) for entry in body["shadowed"]
    ]
    columns(out, [_HEADER, *rows], header=True)


def _rows(engine: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    first, *others = [model["id"] for model in engine["models"]]
    replicas = engine["replicas"]
    held = sum(size for replica in replicas for size in replica["memory"]["held"].values())
    devices = dict.fromkeys(device for replica in replicas for device in replica["devices"])
    requests, speed = engine["requests"], engine["tokens_per_second"]
    waiting = f" + {requests['waiting']} waiting" if requests["waiting"] else ""
    times = f" x{len(replicas)}" if len(replicas) > 1 else ""
    yield (
        first,
        engine["status"] + times,
        format_bytes(held) if held else _NONE,
        ", ".join(devices) or _NONE,
        f"{requests['running']}{waiting}",
        f"{speed:.1f}" if speed else _NONE,
        doing(engine) or _NONE,
    )
    for name in others:
        yield name, engine["status"], *[_NONE] * 4, f"shares the engine of {first}"


def doing(engine: Mapping[str, Any]) -> str:
    """What an engine is doing, or what will happen to it, in a few words."""
    best = min(engine["replicas"], key=lambda replica: replica["status"] != engine["status"])
    match engine["status"]:
        case "loading":
            return _progress(best["progress"]) or engine["detail"] or ""
        case "failed" | "restarting":
            pause = best["retry_after_seconds"]
            again = f"again in {duration(pause)}: " if pause else ""
            return f"{again}{engine['detail'] or ''}"
        case "ready":
            return _rest(engine, best["idle_seconds"] or 0.0)
        case _:
            return engine["detail"] or ""


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2 h``, ``4 d``: as coarse as people say it."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _rest(engine: Mapping[str, Any], idle: float) -> str:
    if engine["pinned"]:
        return "pinned"
    if engine["requests"]["running"]:
        return ""
    timeout = engine["idle_timeout"]
    if timeout is not None:
        return f"unloaded in {duration(max(0.0, timeout - idle))}"
    return f"idle for {duration(idle)}"


def _progress(progress: Mapping[str, Any] | None) -> str:
    if progress is None:
        return ""
    stage, done, total = str(progress["stage"]), progress["done"], progress["total"]
    if total and progress["unit"] == "B":
        return f"{stage}, {format_bytes(done)} of {format_bytes(total)}"
    if total:
        return f"{stage}, {done} of {total}"
    expected = progress["expected_seconds"]
    return stage + (f" (last time {duration(expected)})" if expected else "")
