"""Fields that hold one text or several, each as text or as token ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError

# More are no request but an attack on the memory: each takes a kilobyte or two before it runs.
MOST_INPUTS = 2048
_ID = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31}
_IDS = {"type": "array", "items": _ID, "minItems": 1}
INPUTS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_INPUTS},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MOST_INPUTS},
    ]
}


def inputs(noun: str) -> Callable[[Any], list[str | list[int]]]:
    """A validator that gives the inputs in order.

    Args:
        noun: What they are called in errors, in the plural; its code is made of it.
    """

    def checked(value: Any) -> list[str | list[int]]:
        if isinstance(value, str) or _are_ids(value):
            return [value]
        if isinstance(value, list) and (_all(value, str) or all(map(_are_ids, value))):
            if 0 < len(value) <= MOST_INPUTS:
                return value
            raise PydanticCustomError(
                "input_count",
                "must hold from 1 to {most} {noun}",
                {"most": MOST_INPUTS, "noun": noun},
            )
        raise PydanticCustomError(
            "input_type",
            "must be a string, an array of strings, an array of token ids, or an array of such "
            "arrays",
        )

    return checked


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and _all(value, int)


def _all(values: list[Any], kind: type) -> bool:
    """Whether all are of this very type (``true`` is no integer)."""
    return all(type(value) is kind for value in values)
