"""What is served of a registry file and of the entries that were added to it; the file wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.errors import RegistryError
from server.prompts.catalog import FORMATS
from server.registry.loader import extend_registry
from server.registry.schema import Registry
from server.storage import AddedEntry


@dataclass(frozen=True, slots=True)
class SetAside:
    """An added entry that is not served.

    Args:
        id: The model's.
        created_at: Unix time at which it was added.
        reason: What keeps it from being served.
    """

    id: str
    created_at: int
    reason: str


def merged(
    file: Registry, added: Iterable[AddedEntry], folder: Path
) -> tuple[Registry, list[SetAside]]:
    """The file's entries with the added ones that fit behind them, and those that do not.

    Args:
        folder: Where relative directories start.
    """
    entries = list(added)
    try:  # all at once, as nearly always
        return extended(file, entries, folder), []
    except RegistryError:
        registry, aside = file, []
        for entry in entries:
            try:
                registry = extended(registry, [entry], folder)
            except RegistryError as error:
                reasons = "; ".join(f"{p.field}: {p.message}" for p in error.problems)
                aside.append(SetAside(entry.id, entry.created_at, reasons))
        return registry, aside


def extended(registry: Registry, added: Iterable[AddedEntry], folder: Path) -> Registry:
    """``registry`` with added entries behind its own.

    Raises:
        RegistryError: Some of them do not fit.
    """
    entries = [entry.entry for entry in added]
    return extend_registry(registry, entries, folder, known_templates=FORMATS)
