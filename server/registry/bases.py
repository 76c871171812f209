"""Entries that are adapters: what they may say, and what they take from the entry they adapt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from server.registry.names import suggestion
from server.registry.values import Section

INHERITED = ("source", "engine", "kind", "reasoning_parser")
"""Fields that an adapter has from its base and cannot set."""

SectionT = TypeVar("SectionT", bound=Section)
_KINDS = "one of directory, hub, package"


class BaseMistake(NamedTuple):
    """A field that is wrong because of what the entry is, or because of another entry."""

    model: int
    """Index of the entry, from 0."""
    field: str
    message: str


def base_mistakes(models: Sequence[Mapping[Any, Any]]) -> Iterator[BaseMistake]:
    """Find entries that are neither whole models nor adapters of one.

    Args:
        models: What each entry says, field by field; what is of a wrong type is passed over.
    """
    for number, model in enumerate(models):
        for field, message in _mistakes(model, models):
            yield BaseMistake(number, field, message)


def inherit(models: Sequence[SectionT]) -> list[SectionT]:
    """The entries, each adapter with its base's values; ``base_mistakes`` has found none."""
    by_id = {vars(model)["id"]: model for model in models}
    return [
        with_values(model, {field: getattr(by_id[base], field) for field in INHERITED})
        if (base := vars(model)["base"]) is not None
        else model
        for model in models
    ]


def with_values(section: SectionT, values: Mapping[str, Any]) -> SectionT:
    """A copy with other values, which do not count as said: a dump of what was set lacks them."""
    said = set(section.model_fields_set)
    copy = type(section).model_construct(_fields_set=said, **(vars(section) | dict(values)))
    return cast("SectionT", copy)


def _mistakes(
    model: Mapping[Any, Any], models: Sequence[Mapping[Any, Any]]
) -> Iterator[tuple[str, str]]:
    base, adapter = model.get("base"), model.get("adapter")
    if base is None and adapter is None:
        if "source" not in model:
            yield "source", f"is required: {_KINDS}; or 'base' and 'adapter' for an adapter"
        return
    if adapter is None:
        yield "adapter", f"is required beside 'base': {_KINDS}"
    if base is None:
        yield "base", "is required beside 'adapter': the id of the entry that it was trained on"
        return
    for field in INHERITED:
        if field in model:
            yield field, f"is that of its base '{base}'; leave it out"
    if isinstance(base, str) and (wrong := _wrong_base(base, models)):
        yield "base", wrong


def _wrong_base(base: str, models: Sequence[Mapping[Any, Any]]) -> str:
    """Why no entry can be an adapter of ``base``; empty where one can."""
    ids = [model["id"] for model in models if isinstance(model.get("id"), str)]
    for model in models:
        if model.get("id") == base and (model.get("base") or model.get("adapter")) is not None:
            return f"'{base}' is an adapter itself; name an entry with a source"
        aliases = model.get("aliases")
        if base not in ids and isinstance(aliases, list) and base in aliases:
            return f"'{base}' is another name of '{model.get('id')}'; write that"
    whole = [model["id"] for model in models if "source" in model and model.get("id") in ids]
    return "" if base in ids else f"unknown model '{base}'{suggestion(base, whole)}"
