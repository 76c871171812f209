"""A recipe file → ``Recipe``, or every mistake in it at once, each with its line and a remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from server.errors import Problem
from server.prompts.catalog import FORMATS
from server.registry.names import suggestion
from server.registry.plain_words import in_plain_words
from server.registry.schema import TEMPLATES_CONTEXT, Sampling
from server.registry.sources_schema import SOURCE_KINDS, TAG_PREFIX
from server.registry.values import Section
from server.registry.yaml_tree import YamlMistakeError, YamlTree
from training.data.sources import DATA_KINDS
from training.errors import RecipeError
from training.recipe import DataSet, Lora, Recipe, Report, Schedule

_SECTIONS: dict[str, type[Section]] = {
    "lora": Lora,
    "schedule": Schedule,
    "report": Report,
    "sampling": Sampling,
}
_WHOLE_FILE = "recipe"
_TAGS = {"id", "source"}


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Args:
        path: The YAML file. Relative directories of sources start at its folder.

    Raises:
        RecipeError: It can't be read or has mistakes; carries all of them, by line.
    """
    tree = _parse(path)
    problems = [
        (line, _dotted(location), f"'{key}' is given twice")
        for line, location, key in tree.duplicate_keys
    ]
    recipe = None
    try:
        recipe = Recipe.model_validate(tree.data, context={TEMPLATES_CONTEXT: FORMATS})
    except ValidationError as error:
        for details in error.errors():
            spot, location, message = _explain(details)
            problem = (tree.line(spot), _dotted(location), message)
            if problem not in problems:  # a value of several kinds is refused by each
                problems.append(problem)
    if recipe is None or problems:
        ordered = sorted(problems, key=lambda problem: problem[0])
        raise RecipeError(str(path), [Problem(f"line {n}", *rest) for n, *rest in ordered])
    return with_absolute_directories(recipe, path.absolute().parent)


def with_absolute_directories(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe, its directories starting at ``folder`` where they are relative."""

    def absolute(source: Any) -> Any:
        directory = getattr(source, "directory", None)
        if directory is None:
            return source
        return source.model_copy(update={"directory": (folder / directory).resolve()})

    data = [each.model_copy(update={"source": absolute(each.source)}) for each in recipe.data]
    return recipe.model_copy(update={"model": absolute(recipe.model), "data": data})


def _parse(path: Path) -> YamlTree:
    try:
        tree = YamlTree(path.read_text(encoding="utf-8-sig"))
    except YamlMistakeError as mistake:
        problem = Problem(f"line {mistake.line}", _WHOLE_FILE, mistake.message)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        problem = Problem("line 1", _WHOLE_FILE, f"cannot be read: {reason}")
    else:
        if isinstance(tree.data, dict):
            return tree
        problem = Problem("line 1", _WHOLE_FILE, "must be a mapping with 'name', 'model', 'data'")
    raise RecipeError(str(path), [problem])


def _explain(error: ErrorDetails) -> tuple[list[str | int], list[str | int], str]:
    """Where its line is to be looked up, which field to name, and the message."""
    tagged = list(error["loc"])
    # Pydantic puts the kinds of a union into the location; the file has no such steps.
    location = [
        step
        for number, step in enumerate(tagged)
        if not str(step).startswith(TAG_PREFIX)
        and not (number == 1 and tagged[0] == "model" and step in _TAGS)
        and not (tagged[0] == "held_out" and number > 0)
    ]
    if error["type"] == "missing":
        return location, location, "is required"
    if error["type"] == "extra_forbidden":
        return location, location[:-1] or location, _unknown(str(tagged[-1]), tagged[:-1])
    if location[:1] == ["held_out"]:
        message = "must be a number of rows, or a share between 0 and 1, or null"
        return location, location, message
    return location, location, in_plain_words(error, location)


def _unknown(name: str, parent: list[str | int]) -> str:
    section = _section_at(parent)
    hint = ""
    for title, other in _SECTIONS.items():
        if section is Recipe and name in other.model_fields:
            hint = f" (it belongs under '{title}')"
    if not hint and section is not Recipe and name in Recipe.model_fields:
        hint = " (it belongs to the recipe itself, at the left margin)"
    return f"unknown field '{name}'" + (hint or suggestion(name, section.model_fields))


def _section_at(location: list[str | int]) -> type[BaseModel]:
    if not location:
        return Recipe
    last = str(location[-1])
    if last.startswith(TAG_PREFIX):
        kinds: Any = SOURCE_KINDS if location[0] == "model" else DATA_KINDS
        found: type[BaseModel] = kinds[last.removeprefix(TAG_PREFIX)]
        return found
    return DataSet if location[0] == "data" else _SECTIONS.get(last, Recipe)


def _dotted(location: Collection[str | int]) -> str:
    return ".".join(str(step) for step in location) or _WHOLE_FILE


def field_descriptions(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and description of every field, for the documentation."""
    for name, field in section.model_fields.items():
        yield prefix + name, " ".join((field.description or "").split())
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section) and name != "sampling":
                yield from field_descriptions(kind, f"{prefix}{name}.")
