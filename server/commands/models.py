"""``corral models``: list, show, fetch, remove, schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from server.commands.inventory import Stock, open_registry, open_store, take_stock
from server.console import FetchBars, columns, out
from server.errors import SourceError
from server.prompts.catalog import FORMATS, get_format
from server.registry.adapter_files import AdapterInfo
from server.registry.loader import registry_schema
from server.registry.schema import ModelEntry
from server.registry.sources_schema import DirectorySource
from server.registry.values import format_bytes
from server.settings import Settings


def list_models(settings: Settings, *, as_json: bool) -> None:
    """Print one line a model."""
    stocks = take_stock(open_registry(settings), open_store(settings))
    if as_json:
        print_json([stock.summary() for stock in stocks])
        return
    rows = [("model", "template", "source", "context", "files", "aliases")]
    for stock in stocks:
        entry = stock.entry
        context = "?" if stock.context is None else f"{stock.context:,}"
        aliases = ", ".join(entry.aliases) or "-"
        rows.append((entry.id, entry.template, stock.source, context, files(stock), aliases))
    columns(out, rows, header=True)


def show_model(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print everything about one model.

    Raises:
        ModelNotFound: There is no such model.
    """
    registry = open_registry(settings)
    entry = registry.resolve(name)
    stock = next(s for s in take_stock(registry, open_store(settings)) if s.entry is entry)
    if as_json:
        print_json(stock.summary() | _details(stock))
        return
    out.print(Text(entry.id, style="bold"))
    if entry.description:
        out.print(Text(entry.description.strip()))
    columns(out, [("aliases", ", ".join(entry.aliases) or "none"), *_facts(stock)])
    if stock.problem:
        out.print(Text(f"problem: {stock.problem}", style="red"))


def fetch_models(settings: Settings, names: Sequence[str] | None) -> None:
    """Bring the files of some models, or of all (None).

    Raises:
        ModelNotFound: There is no such model.
        SourceError: Files cannot be brought; the others are there. Names every one that failed.
    """
    registry, store = open_registry(settings), open_store(settings)
    entries = registry.models if names is None else [registry.resolve(name) for name in names]
    failed = []
    for entry in entries:
        try:
            path = store.prepare(entry.source, FetchBars(entry.id))
            if entry.adapter is not None:
                path = store.adapters.prepare(entry.adapter, FetchBars(entry.id))
        except SourceError as error:
            failed.append(f"{entry.id}: {error}")
        else:
            out.print(f"{entry.id}: {path}", markup=False)
    if failed:
        raise SourceError("\n".join(failed))


def remove_models(settings: Settings, names: Sequence[str]) -> None:
    """Delete the fetched files of some models.

    Raises:
        ModelNotFound: There is no such model.
    """
    registry, store = open_registry(settings), open_store(settings)
    for entry in [registry.resolve(name) for name in names]:
        size = next(s.size for s in take_stock(registry, store) if s.entry is entry)
        if entry.adapter is None:
            removed = store.remove(entry.source, FetchBars(entry.id))
        else:
            removed = store.adapters.remove(entry.adapter, FetchBars(entry.id))
        said = f"removed, {format_bytes(size)} freed" if removed else _why_nothing(entry)
        out.print(f"{entry.id}: {said}", markup=False)


def print_schema() -> None:
    """Print the registry's JSON Schema."""
    print_json(registry_schema(known_templates=FORMATS))


def print_json(value: Any) -> None:
    """Print a value as JSON, as it is: no colours, no wraps."""
    out.print(
        json.dumps(value, indent=2, ensure_ascii=False), markup=False, highlight=False, emoji=False
    )


def files(stock: Stock) -> str:
    """Whether the files are here, and how large."""
    if stock.problem:
        return "broken"
    return format_bytes(stock.size) if stock.own_path is not None else "not fetched"


def _why_nothing(entry: ModelEntry) -> str:
    own = isinstance(entry.adapter or entry.source, DirectorySource)
    return "your own folder is left alone" if own else "nothing was fetched"


def _facts(stock: Stock) -> list[tuple[str, str]]:
    entry, details, own = stock.entry, _details(stock), stock.own_path
    prompt_format = get_format(entry.template)
    unknown = "unknown until the files are here"
    memory = details["memory"]
    context = unknown if stock.context is None else f"{stock.context:,} tokens"
    rows = [
        ("source", str(entry.source)),
        *_about_adapter(stock),
        ("files", f"{own} ({format_bytes(stock.size)})" if own else "not fetched"),
        ("template", f"{entry.template} ({prompt_format.source})"),
        ("history", entry.history),
        ("system", "the format's own" if entry.system is None else repr(entry.system)),
        ("stop", ", ".join(map(repr, details["stop"])) or "the model's own end token"),
        ("context", f"{context}; what does not fit: {entry.context.overflow}"),
        ("sampling", _said(entry.sampling.model_dump(exclude_none=True))),
        ("engine", _said(entry.engine.model_dump(exclude_defaults=True))),
        ("load", entry.load.replace("_", " ")),
    ]
    if stock.shares_with != entry.id:
        rows.append(("shares", f"the engine of {stock.shares_with}"))
    if memory is None:
        return [*rows, ("memory", unknown)]
    return [
        *rows,
        ("weights", f"{format_bytes(memory['weights'])} ({memory['dtype']})"),
        ("KV cache", f"{format_bytes(memory['kv_per_token'])} a token"),
        ("", f"{format_bytes(memory['kv_full_context'])} for one full context"),
        ("architecture", memory["architecture"]),
    ]


def _about_adapter(stock: Stock) -> list[tuple[str, str]]:
    entry, adapter = stock.entry, stock.adapter
    if entry.adapter is None:
        return []
    rows = [("base", str(entry.base)), ("adapter", str(entry.adapter))]
    if adapter is None:
        return rows
    return [*rows, ("", f"rank {adapter.rank} on {', '.join(adapter.targets)}")]


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "defaults"


def _details(stock: Stock) -> dict[str, Any]:
    entry, info = stock.entry, stock.info
    memory = None
    if info is not None:
        memory = {
            "weights": info.weight_bytes,
            "kv_per_token": info.kv_bytes_per_token(),
            "kv_full_context": stock.kv_context_bytes,
            "dtype": info.dtype,
            "architecture": info.architecture,
        }
    prompt_format = get_format(entry.template)
    return {
        "stop": [*prompt_format.stop, *prompt_format.stop_tokens, *entry.stop],
        "history": entry.history,
        "system": entry.system,
        "overflow": entry.context.overflow,
        "sampling": entry.sampling.model_dump(exclude_none=True),
        "engine": entry.engine.model_dump(mode="json", exclude_defaults=True),
        "memory": memory,
        "lora": None if stock.adapter is None else _lora(stock.adapter),
    }


def _lora(adapter: AdapterInfo) -> dict[str, Any]:
    return {
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": list(adapter.targets),
        "weights": adapter.weight_bytes,
    }
