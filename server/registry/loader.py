"""``model_registry.yaml`` → ``Registry``, or every mistake in it at once, each with its line.

Entries that do not stand in the file are put behind those that do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from server.errors import Problem, RegistryError
from server.registry.bases import base_mistakes, with_values
from server.registry.names import NameClash, name_clashes
from server.registry.plain_words import explain
from server.registry.schema import TEMPLATES_CONTEXT, ModelEntry, Registry
from server.registry.sources_schema import DirectorySource
from server.registry.yaml_tree import Location, YamlMistakeError, YamlTree

_WHOLE_FILE = "file"
_WHOLE_ENTRY = "entry"
# Errors of what entries are to each other.
_ABOUT_ALL = ("duplicate_names", "bases")


def load_registry(path: Path, *, known_templates: Collection[str] | None = None) -> Registry:
    """Read a registry file.

    Args:
        path: The YAML file. Relative directories of sources start at its folder.
        known_templates: Ids of the prompt formats, ``auto`` among them; None leaves the
            ``template`` fields unchecked.

    Returns:
        The registry; directories of its sources are absolute.

    Raises:
        RegistryError: The file can't be read or has mistakes; carries all of them, by line.
    """
    tree = _parse(path, _read(path))
    problems = [
        (line, _dotted(location), f"'{key}' is given twice")
        for line, location, key in tree.duplicate_keys
    ]
    problems += [(tree.line(spot), _dotted(spot), text) for spot, text in _clashes(tree.data)]
    registry = None
    try:
        registry = Registry.model_validate(tree.data, context={TEMPLATES_CONTEXT: known_templates})
    except ValidationError as error:
        for details in error.errors():
            # What entries are to each other is looked at above already, with the lines.
            if details["type"] not in _ABOUT_ALL:
                spot, field, message = explain(details)
                problems.append((tree.line(spot), _dotted(field), message))
    if registry is None or problems:
        ordered = sorted(problems, key=lambda problem: problem[0])
        raise RegistryError([Problem(f"{path}:{line}", *rest) for line, *rest in ordered])
    return _with_absolute_directories(registry, path.absolute().parent)


def extend_registry(
    registry: Registry,
    entries: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    known_templates: Collection[str] | None = None,
) -> Registry:
    """A registry with further entries behind its own, which stay as they are.

    Args:
        registry: What is there.
        entries: What stands for each model in a registry file.
        folder: Where relative directories of their sources start.
        known_templates: As for `load_registry`.

    Raises:
        RegistryError: Some of them are wrong, or use names that are taken.
    """
    count = len(registry.models)
    models = [*registry.models, *entries]
    problems = []
    names = [[m.id, *m.aliases] for m in registry.models] + [_names_of(entry) for entry in entries]
    for clash in name_clashes(names):
        spot = "id" if clash.position == 0 else f"aliases.{clash.position - 1}"
        problems.append(_problem_of(entries[clash.model - count], spot, _of_whom(clash, names)))
    said = [*(m.model_dump(exclude_unset=True) for m in registry.models), *entries]
    problems += [
        _problem_of(entries[mistake.model - count], mistake.field, mistake.message)
        for mistake in base_mistakes(said)
    ]
    try:
        extended = Registry.model_validate(
            dict(registry) | {"models": models}, context={TEMPLATES_CONTEXT: known_templates}
        )
    except ValidationError as error:
        for details in error.errors():
            if details["type"] not in _ABOUT_ALL:
                _, (_, number, *field), message = explain(details)
                where = ".".join(map(str, field)) or _WHOLE_ENTRY
                problems.append(_problem_of(entries[int(number) - count], where, message))
    if problems:
        raise RegistryError(problems)
    fresh = _with_absolute_directories(extended, folder).models[count:]
    return extended.model_copy(update={"models": [*extended.models[:count], *fresh]})


def registry_schema(*, known_templates: Collection[str] | None = None) -> dict[str, Any]:
    """JSON Schema of the registry file, for editors that complete and check it.

    Args:
        known_templates: Ids of the prompt formats; given, ``template`` is one of them.
    """
    schema = Registry.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    schema["title"] = "Corral model registry"
    if known_templates is not None:
        template = schema["$defs"][ModelEntry.__name__]["properties"]["template"]
        template["enum"] = sorted(known_templates)
    return schema


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        message = "does not exist; give the registry's path with --registry or CORRAL_REGISTRY"
    except IsADirectoryError:
        message = "is a folder; give the path of the YAML file itself"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start})"
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
    raise RegistryError([Problem(str(path), _WHOLE_FILE, message)])


def _parse(path: Path, text: str) -> YamlTree:
    try:
        tree = YamlTree(text)
    except YamlMistakeError as mistake:
        line, message = mistake.line, mistake.message
    else:
        if isinstance(tree.data, dict):
            return tree
        line, message = 1, "must be a mapping with the field 'models'"
        if tree.data is None:
            message = "is empty; it needs the field 'models' with at least one model"
    raise RegistryError([Problem(f"{path}:{line}", _WHOLE_FILE, message)])


def _clashes(data: dict[Any, Any]) -> Iterator[tuple[list[str | int], str]]:
    """Names used twice, and adapters without a base or with too much of their own.

    Looked for in the raw data: other mistakes must not hide them.
    """
    models = data.get("models")
    if not isinstance(models, list):
        return
    entries = [model if isinstance(model, dict) else {"source": None} for model in models]
    names = [_names_of(entry) for entry in entries]
    for clash in name_clashes(names):
        field = ["id"] if clash.position == 0 else ["aliases", clash.position - 1]
        yield ["models", clash.model, *field], clash.message
    for mistake in base_mistakes(entries):
        yield ["models", mistake.model, mistake.field], mistake.message


def _names_of(entry: Mapping[str, Any]) -> list[Any]:
    aliases = entry.get("aliases")
    return [entry.get("id"), *(aliases if isinstance(aliases, list) else [])]


def _of_whom(clash: NameClash, names: Sequence[Sequence[Any]]) -> str:
    """What an added entry's name clashes with; entries of two places have no common numbers."""
    name = names[clash.model][clash.position]
    owner = next(owner for owner in names if name in owner)
    whose = "this model" if owner is names[clash.model] else f"the model '{owner[0]}'"
    return f"the name '{name}' is already used by {whose}"


def _problem_of(entry: Mapping[str, Any], field: str, message: str) -> Problem:
    return Problem(str(entry.get("id", "the new model")), field, message)


def _dotted(location: Location) -> str:
    return ".".join(str(step) for step in location) or _WHOLE_FILE


def _with_absolute_directories(registry: Registry, folder: Path) -> Registry:
    def absolute(entry: ModelEntry) -> ModelEntry:
        places = {
            field: DirectorySource(directory=(folder / source.directory).resolve())
            for field, source in (("source", entry.source), ("adapter", entry.adapter))
            if isinstance(source, DirectorySource)
        }
        return with_values(entry, places) if places else entry

    return registry.model_copy(update={"models": [absolute(e) for e in registry.models]})
