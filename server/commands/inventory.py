"""What of a registry's models is on this machine: files, sizes, context, memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import CorralError
from server.registry.adapter_files import AdapterInfo, describe_adapter
from server.registry.inspect import ModelInfo, describe_model, resolve_context_length
from server.registry.loader import load_registry
from server.registry.schema import ModelEntry, Registry
from server.registry.sources import ModelStore, default_cache_dir
from server.registry.sources_schema import AdapterSource, DirectorySource, HubSource, Source
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class Stock:
    """One registry entry and what is known of its files.

    Args:
        entry: The registry entry.
        path: The model's files, or None where they are not here. An adapter's are its base's.
        size: Bytes on disk of what is the entry's own: an adapter's are only its; 0 where they are
            not here.
        info: What the files say, or None.
        context: Tokens it is served with, or None while that is unknown.
        problem: Why the files cannot be used, or "".
        shares_with: Id of the entry whose engine it uses; its own for the first of a group.
        adapter_path: The adapter's files, or None where they are not here.
        adapter: What the adapter's files say, or None.
    """

    entry: ModelEntry
    path: Path | None
    size: int
    info: ModelInfo | None
    context: int | None
    problem: str
    shares_with: str
    adapter_path: Path | None = None
    adapter: AdapterInfo | None = None

    @property
    def own_path(self) -> Path | None:
        """The files that no other entry brings: an adapter's, or the model's."""
        return self.path if self.entry.adapter is None else self.adapter_path

    @property
    def is_here(self) -> bool:
        """Whether every file that the entry needs is on this machine."""
        return self.path is not None and self.own_path is not None

    @property
    def source(self) -> str:
        """Where the files come from, in a few words."""
        entry = self.entry
        if entry.adapter is None:
            return _in_short(entry.source)
        return f"{_in_short(entry.adapter)} on {entry.base}"

    @property
    def kv_context_bytes(self) -> int | None:
        """KV cache of one full context, in bytes."""
        if self.info is None or self.context is None:
            return None
        return self.info.kv_bytes_per_token() * self.context

    def summary(self) -> dict[str, Any]:
        """What scripts want to know of a model (sizes in bytes, lengths in tokens)."""
        entry = self.entry
        return {
            "id": entry.id,
            "aliases": entry.aliases,
            "description": entry.description,
            "template": entry.template,
            "source": entry.source.model_dump(mode="json"),
            "base": entry.base,
            "adapter": None if entry.adapter is None else entry.adapter.model_dump(mode="json"),
            "context": self.context,
            "load": entry.load,
            "shares_engine_with": self.shares_with if self.shares_with != entry.id else None,
            "path": None if self.own_path is None else str(self.own_path),
            "size": self.size,
            "problem": self.problem or None,
        }


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name, its templates checked.

    Raises:
        RegistryError: It has mistakes.
    """
    from server.prompts.catalog import FORMATS

    return load_registry(settings.registry_path, known_templates=FORMATS)


def open_store(settings: Settings) -> ModelStore:
    """The model files of this machine."""
    return ModelStore(settings.cache_dir or default_cache_dir())


def take_stock(registry: Registry, store: ModelStore) -> list[Stock]:
    """Look at the files of every model, in the registry's order; reads no weights."""
    hosts = {
        entry.id: group[0].id for group in registry.engine_groups().values() for entry in group
    }
    return [_stock(entry, store, hosts[entry.id]) for entry in registry.models]


def _stock(entry: ModelEntry, store: ModelStore, host: str) -> Stock:
    path = store.path_if_ready(entry.source)
    adapter_path = None
    if entry.adapter is not None:
        adapter_path = store.adapters.path_if_ready(entry.adapter)
    info, adapter, context, problem = None, None, entry.context.length, ""
    try:
        if path is not None:
            info = describe_model(path)
            context = resolve_context_length(entry, info)
        if adapter_path is not None:
            adapter = describe_adapter(adapter_path, str(entry.adapter))
    except CorralError as error:
        problem = str(error)
    own = path if entry.adapter is None else adapter_path
    size = 0 if own is None else folder_size(own)
    return Stock(entry, path, size, info, context, problem, host, adapter_path, adapter)


def _in_short(source: Source | AdapterSource) -> str:
    match source:
        case DirectorySource(directory=directory):
            return str(directory)
        case HubSource(hub=hub, revision=revision):
            return hub if revision == "main" else f"{hub}@{revision}"
        case _:
            return f"{source.package} {source.version}"


def folder_size(folder: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
