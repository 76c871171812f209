"""Names of entries: which are used twice, and what a wrong one may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple


class NameClash(NamedTuple):
    """A name that an earlier entry, or the same one, already has."""

    model: int
    """Index of the entry, from 0."""
    position: int
    """0 for the id, n for the n-th alias."""
    message: str


def name_clashes(names: Iterable[Iterable[Any]]) -> list[NameClash]:
    """Find ids and aliases used more than once.

    Args:
        names: For each entry its id and then its aliases; what isn't text is passed over.
    """
    owners: dict[str, int] = {}
    clashes = []
    for model, entry_names in enumerate(names):
        for position, name in enumerate(entry_names):
            if not isinstance(name, str):
                continue
            owner = owners.setdefault(name, model)
            first = owner == model and list(entry_names).index(name) == position
            if not first:
                whose = "this model" if owner == model else f"models.{owner}"
                message = f"the name '{name}' is already used by {whose}"
                clashes.append(NameClash(model, position, message))
    return clashes


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest known word, or the known ones in short."""
    choices = sorted(known)
    close = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (known: {', '.join(choices)})" if choices else ""
