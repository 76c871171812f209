"""``corral doctor``: one screen, or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import Any

from rich.text import Text

from server.commands.forecast import Prospect
from server.commands.models import files, print_json
from server.console import columns, out
from server.doctor import Report, Senses, examine
from server.engines.hardware import Hardware
from server.registry.values import format_bytes
from server.settings import Settings


def doctor(settings: Settings, *, as_json: bool, senses: Senses | None = None) -> int:
    """Print what was seen; returns 1 if something keeps the server from serving, else 0."""
    report = examine(settings, senses)
    if as_json:
        print_json(_as_json(report))
    else:
        _show(report)
    return 0 if report.healthy else 1


def _show(report: Report) -> None:
    _section("Machine", [*_machine(report)])
    _section("Software", [*_software(report)])
    _section("Server", [*_server(report)])
    if report.stocks:
        header = ("model", "files", "context", "template")
        _section("Models", [header, *_models(report)], header=True)
    for engine in report.memory.engines if report.memory else ():
        if engine.plan is not None or engine.problem:
            _section(f"Engine of {', '.join(engine.models)}", [*_engine(engine)])
    _findings(report)


def _section(title: str, rows: list[tuple[str, ...]], *, header: bool = False) -> None:
    out.print(Text(title, style="bold underline" if out.is_terminal else ""))
    if rows:
        columns(out, rows, header=header, indent="  ")


def _machine(report: Report) -> Iterator[tuple[str, str]]:
    hardware = report.hardware
    nodes = f", {len(hardware.nodes)} NUMA nodes" if len(hardware.nodes) > 1 else ""
    yield "cpu", f"{hardware.cpu_model}, {hardware.cores} usable cores{nodes}"
    yield "isa", " ".join(hardware.isa) or "nothing that matters"
    total, free = format_bytes(hardware.memory_total), format_bytes(hardware.memory_available)
    yield "memory", f"{total}, {free} free"
    for gpu in hardware.gpus:
        memory = f"{format_bytes(gpu.memory_total)}, {format_bytes(gpu.memory_free)} free"
        if gpu.unified:
            memory += ", the system's"
        yield f"gpu {gpu.index}", f"{gpu.name}, {memory}"
    if not hardware.gpus:
        yield "gpu", f"none ({hardware.no_gpu})"


def _software(report: Report) -> Iterator[tuple[str, str]]:
    builds = report.builds
    yield "corral", builds.corral
    yield "engine", builds.engine
    yield "torch", builds.torch or "none"
    yield "python", f"{builds.python} ({builds.executable})"
    yield "compiler", _compiler(report.hardware)


def _compiler(hardware: Hardware) -> str:
    """The one that counts here: Triton's on a GPU."""
    if not hardware.gpus:
        return hardware.compiler or "none (fine: eager mode needs none)"
    lacks = hardware.gpu_compile_lacks
    return f"{lacks} (models run in eager mode)" if lacks else f"{hardware.c_compiler}, Python.h"


def _server(report: Report) -> Iterator[tuple[str, str]]:
    yield "registry", str(report.registry_path)
    free = "unknown" if report.disk_free is None else format_bytes(report.disk_free)
    yield "cache", f"{report.cache_dir}, {free} of disk free"
    yield "port", f"{report.port} on {report.host}: {_port_state(report)}"


def _port_state(report: Report) -> str:
    if report.port_owner is not None:
        return f"in use by {report.port_owner}"
    return "free" if report.port_usable else "cannot be listened on"


def _models(report: Report) -> Iterator[tuple[str, ...]]:
    for stock in report.stocks:
        context = "?" if stock.context is None else f"{stock.context:,}"
        yield stock.entry.id, files(stock), context, stock.entry.template


def _engine(engine: Prospect) -> Iterator[tuple[str, ...]]:
    if engine.plan is None:
        return
    need = engine.plan.need
    parts = {"weights": need.weights, "KV cache": need.kv_cache, "adapters": need.adapters}
    told = [f"{name} {format_bytes(size)}" for name, size in parts.items() if size]
    yield "memory", format_bytes(need.peak), f"{', '.join(told)}, and the rest"
    for choice in engine.plan.choices:
        value = choice.value
        if choice.name.endswith("_bytes") and value.isdigit():
            value = format_bytes(int(value))
        yield choice.name.removesuffix("_bytes"), value, choice.reason


def _findings(report: Report) -> None:
    if not report.findings:
        out.print(Text("Nothing is wrong.", style="green"))
        return
    out.print(Text("What is wrong", style="bold underline" if out.is_terminal else ""))
    for remedy, findings in groupby(report.findings, key=attrgetter("remedy")):
        for finding in findings:
            mark = ("  ✗ ", "red") if finding.stops else ("  ! ", "yellow")
            out.print(Text.assemble(mark, finding.what))
        out.print(Text(f"    → {remedy}"))


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "healthy": report.healthy,
        "findings": [asdict(finding) for finding in report.findings],
        "hardware": asdict(report.hardware),
        "builds": asdict(report.builds),
        "registry": str(report.registry_path),
        "models": [stock.summary() for stock in report.stocks],
        "engines": [_engine_json(engine) for engine in report.memory.engines]
        if report.memory
        else [],
        "cache": {"path": str(report.cache_dir), "free": report.disk_free},
        "port": {
            "host": report.host,
            "port": report.port,
            "usable": report.port_usable,
            "owner": None if report.port_owner is None else asdict(report.port_owner),
        },
    }


def _engine_json(engine: Prospect) -> dict[str, Any]:
    plan = engine.plan
    return {
        "models": list(engine.models),
        "need": 0 if plan is None else plan.need.peak,
        "choices": [] if plan is None else [asdict(choice) for choice in plan.choices],
        "problem": engine.problem,
    }
