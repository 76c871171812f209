"""The model that a recipe trains: its files, and what the registry calls it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from server.errors import ModelNotFound
from server.prompts.catalog import FORMATS
from server.registry import ModelStore, Progress, Registry, Source, load_registry
from training.errors import TrainingError
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model to start from.

    Args:
        source: Where its files come from.
        entry_id: The registry entry that serves it, or None where there is none.
        directory: Its files on this machine.
    """

    source: Source
    entry_id: str | None
    directory: Path

    @property
    def label(self) -> str:
        """What a model card calls it."""
        return self.entry_id or self.source.label


def find_source(recipe: Recipe, registry_path: Path) -> tuple[Source, str | None]:
    """The source of the recipe's model, and the id of the registry entry that serves it.

    Raises:
        RegistryError: The recipe names an entry, and the registry is wrong.
        TrainingError: There is no such entry, or it is an adapter itself.
    """
    if not isinstance(recipe.model, str):
        if not registry_path.is_file():
            return recipe.model, None
        return recipe.model, _served_as(recipe.model, _registry(registry_path))
    registry = _registry(registry_path)
    try:
        entry = registry.resolve(recipe.model)
    except ModelNotFound:
        known = ", ".join(each.id for each in registry.models if each.base is None)
        raise TrainingError(
            f"The recipe trains '{recipe.model}', which {registry_path} does not have. It has "
            f"{known}. Name one of them, or give `model` a source: hub, directory or package."
        ) from None
    if entry.base is not None:
        raise TrainingError(
            f"'{entry.id}' is an adapter itself. Train '{entry.base}', or merge it first: "
            "corral train merge"
        )
    return entry.source, entry.id


def bring(source: Source, entry_id: str | None, cache_dir: Path, progress: Progress) -> BaseModel:
    """Have the model's files on this machine.

    Raises:
        SourceError: They can't be brought; says why and what to do.
    """
    return BaseModel(source, entry_id, ModelStore(cache_dir).prepare(source, progress))


def _registry(path: Path) -> Registry:
    return load_registry(path, known_templates=FORMATS)


def _served_as(source: Source, registry: Registry) -> str | None:
    same = (each.id for each in registry.models if each.source.key == source.key)
    return next(same, None)
