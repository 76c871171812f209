"""What of a registry's models is on this machine: files, sizes, context, memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import CorralError
from server.registry.inspect import ModelInfo, describe_model, resolve_context_length
from server.registry.loader import load_registry
from server.registry.schema import ModelEntry, Registry
from server.registry.sources import ModelStore, default_cache_dir
from server.registry.sources_schema import DirectorySource, HubSource
from server.settings import Settings


@dataclass(frozen=True, slots=True)
class Stock:
    """One registry entry and what is known of its files.

    Args:
        entry: The registry entry.
        path: Its files, or None where they are not here.
        size: Bytes they take on disk; 0 where they are not here.
        info: What the files say, or None.
        context: Tokens it is served with, or None while that is unknown.
        problem: Why the files cannot be used, or "".
        shares_with: Id of the entry whose engine it uses; its own for the first of a group.
    """

    entry: ModelEntry
    path: Path | None
    size: int
    info: ModelInfo | None
    context: int | None
    problem: str
    shares_with: str

    @property
    def source(self) -> str:
        """Where the files come from, in a few words."""
        match self.entry.source:
            case DirectorySource(directory=directory):
                return str(directory)
            case HubSource(hub=hub, revision=revision):
                return hub if revision == "main" else f"{hub}@{revision}"
            case source:
                return f"{source.package} {source.version}"

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
            "context": self.context,
            "load": entry.load,
            "shares_engine_with": self.shares_with if self.shares_with != entry.id else None,
            "path": None if self.path is None else str(self.path),
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
    info, context, problem = None, entry.context.length, ""
    if path is not None:
        try:
            info = describe_model(path)
            context = resolve_context_length(entry, info)
        except CorralError as error:
            problem = str(error)
    size = 0 if path is None else folder_size(path)
    return Stock(entry, path, size, info, context, problem, host)


def folder_size(folder: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
