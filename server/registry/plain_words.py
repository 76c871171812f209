"""Pydantic's findings about a registry file, said in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from server.registry.names import suggestion
from server.registry.schema import (
    Context,
    EngineSettings,
    HerdSettings,
    ModelEntry,
    Registry,
    Sampling,
)
from server.registry.sources_schema import SOURCE_KINDS, TAG_PREFIX
from server.registry.values import Section

_SECTIONS: dict[str, type[Section]] = {
    "context": Context,
    "sampling": Sampling,
    "engine": EngineSettings,
    "herd": HerdSettings,
}
_OWN_WORDS = frozenset(
    ["byte_size", "top_k", "template_unknown", "directory_empty", "wheel_path", "duplicate_names"]
)
_NAME = "letters, digits and . _ : / - , beginning with a letter or digit"
_PATTERNS = {
    "id": _NAME,
    "aliases": _NAME,
    "base": _NAME,
    "hub": "a repository as organisation/name",
    "revision": "a branch, tag or commit",
    "package": "a Python package's name",
    "version": "an exact version such as 0.1.2",
    "sha256": "64 lower-case hexadecimal digits",
}


def explain(error: ErrorDetails) -> tuple[list[str | int], list[str | int], str]:
    """Translate one of pydantic's errors.

    Returns:
        Where its line is to be looked up, which field to name, and the message.
    """
    tagged = list(error["loc"])
    location = [step for step in tagged if not str(step).startswith(TAG_PREFIX)]
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return location, location[:-1], _unknown_field(tagged)
    if error["type"] == "missing":
        return location, location, "is required"
    if error["type"] == "source_kind":
        return _explain_source(location, error["input"])
    if "extra" in location[:-2]:
        # Below here pydantic mixes the names of its own types into the location.
        location = location[: location.index("extra") + 2]
        if error["loc"][-1] == "[key]":
            name = error["loc"][-2]
            return location, location[:-1], f"the field name {name!r} must be text"
    return location, location, in_plain_words(error, location)


def in_plain_words(error: ErrorDetails, location: list[str | int]) -> str:
    """What is wrong with the value at a location, for any file of ``Section``s."""
    context: Mapping[str, Any] = error.get("ctx", {})
    kind = error["type"]
    if kind in _OWN_WORDS:
        return str(error["msg"])
    if kind == "string_pattern_mismatch":
        names = [step for step in location if isinstance(step, str)]
        return f"must be {_PATTERNS.get(names[-1], 'written otherwise')}, not {_show(error)}"
    words = _WORDS.get(kind)
    if words is not None:
        return words(context, _show(error))
    return str(error["msg"]).replace("Input should be", "must be").replace("Value error, ", "")


def _show(error: ErrorDetails) -> str:
    """The offending value in the words of YAML, cut where it is long."""
    value = error["input"]
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, int | float):
        return _cut(f"the number {value}")
    return _cut(f"'{value}'")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: float) -> str:
    """A bound as people write it: 2, not 2.0."""
    return str(int(value)) if value == int(value) else str(value)


def _wants(what: str) -> Callable[[Mapping[str, Any], str], str]:
    return lambda _context, shown: f"must be {what}, not {shown}"


def _text(_context: Mapping[str, Any], shown: str) -> str:
    quote = "; put it in quotes" if shown.startswith(("the number", "the truth")) else ""
    return f"must be text, not {shown}{quote}"


_WORDS: dict[str, Callable[[Mapping[str, Any], str], str]] = {
    "string_type": _text,
    "path_type": _text,
    "int_type": _wants("a whole number"),
    "int_from_float": _wants("a whole number"),
    "float_type": _wants("a number"),
    "bool_type": _wants("true or false"),
    "list_type": _wants("a list"),
    "dict_type": _wants("a mapping of fields"),
    "model_type": _wants("a mapping of fields"),
    "recursion_loop": lambda _context, _shown: "refers to itself",
    "invalid-json-value": _wants("plain text, a number, true, false, a list or a mapping"),
    "greater_than": lambda context, shown: (
        f"must be more than {_number(context['gt'])}, not {shown}"
    ),
    "greater_than_equal": lambda context, shown: (
        f"must be at least {_number(context['ge'])}, not {shown}"
    ),
    "less_than": lambda context, shown: f"must be less than {_number(context['lt'])}, not {shown}",
    "less_than_equal": lambda context, shown: (
        f"must be at most {_number(context['le'])}, not {shown}"
    ),
    "literal_error": lambda context, shown: f"must be {context['expected']}, not {shown}",
    "string_too_short": lambda _context, _shown: "must not be empty",
    "string_too_long": lambda context, _shown: (
        f"must be at most {context['max_length']} characters long"
    ),
    "too_short": lambda _context, _shown: "must list at least one",
    "too_long": lambda context, _shown: (
        f"must list at most {context['max_length']}, not {context['actual_length']}"
    ),
}


def _unknown_field(tagged: list[str | int]) -> str:
    name, parent = str(tagged[-1]), tagged[:-1]
    return f"unknown field '{name}'" + _hint(name, _section_at(parent))


def _hint(name: str, section: type[Section] | None) -> str:
    if section is None:
        return ""
    for title, other in _SECTIONS.items():
        if section is not other and name in other.model_fields:
            return f" (it belongs under '{title}')"
    if section is not ModelEntry and name in ModelEntry.model_fields:
        return " (it belongs to the model itself, one level up)"
    return suggestion(name, section.model_fields)


def _section_at(location: list[str | int]) -> type[Section] | None:
    """The pydantic model whose fields stand at this (tagged) location."""
    if not location:
        return Registry
    last = str(location[-1])
    if last.startswith(TAG_PREFIX):
        return SOURCE_KINDS[last.removeprefix(TAG_PREFIX)]
    return ModelEntry if len(location) == 2 else _SECTIONS.get(last)


def _explain_source(
    location: list[str | int], value: Any
) -> tuple[list[str | int], list[str | int], str]:
    """None, or several, of the keys that tell the kinds of source apart."""
    if not isinstance(value, dict):
        return location, location, "must be a mapping with one of directory, hub, package"
    present = [kind for kind in SOURCE_KINDS if kind in value]
    if present:
        return location, location, f"must have only one of {' and '.join(present)}"
    every_field = _all_source_fields()
    for key in value:
        if key not in every_field:
            hint = suggestion(str(key), SOURCE_KINDS)
            return [*location, key], location, f"unknown field '{key}'{hint}"
    return location, location, "must have one of directory, hub, package"


def _all_source_fields() -> set[str]:
    fields: Iterable[set[str]] = (set(model.model_fields) for model in SOURCE_KINDS.values())
    return set().union(*fields)
