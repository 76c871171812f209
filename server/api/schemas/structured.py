"""What an answer must look like: ``response_format`` and vLLM's ``structured_outputs``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from server.api.schemas.json_schema import check_size, check_work, checked_schema, parts
from server.engines.base import Constraint
from server.engines.bounded_schema import is_hard
from server.errors import InvalidRequest

_LONGEST_TEXT: Final = 32_768
_LONGEST_REGEX: Final = 4096
_MOST_CHOICES: Final = 1000
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KINDS: Final = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
# Formats of structural tags whose compiler could be kept busy for minutes by a few characters.
_NOT_IN_TAGS: Final = frozenset({"grammar", "plus", "regex", "repeat", "star"})
_OBJECT: Final = {"type": "object"}


def constraint_of(response_format: Any, structured_outputs: Any) -> Constraint | None:
    """The constraint that a request asks for, at most one.

    Raises:
        InvalidRequest: One of the fields is wrong, or both ask for something.
    """
    first = _response_format(response_format)
    second = _structured_outputs(structured_outputs)
    if first and second:
        raise InvalidRequest(
            "'response_format' and 'structured_outputs' exclude each other: send one of them.",
            param="structured_outputs",
        )
    return first or second


def _response_format(said: Any) -> Constraint | None:
    if said is None:
        return None
    kind = said.get("type") if isinstance(said, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Constraint("json", _OBJECT, "response_format")
    if kind == "json_schema":
        return _json_schema(said.get("json_schema"))
    if kind == "structural_tag":
        return _structural_tag(dict(said), "response_format")
    raise InvalidRequest(
        "'response_format.type' must be one of: text, json_object, json_schema, structural_tag.",
        param="response_format.type" if isinstance(said, Mapping) else "response_format",
    )


def _json_schema(said: Any) -> Constraint:
    param = "response_format.json_schema"
    if not isinstance(said, Mapping):
        raise InvalidRequest(f"'{param}' must be an object with 'name' and 'schema'.", param=param)
    name = said.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{param}.name' must be 1 to 64 letters, digits, underscores or dashes.",
            param=f"{param}.name",
        )
    schema = said.get("schema")
    if schema is None:  # OpenAI takes it as any object
        return Constraint("json", _OBJECT, param)
    return Constraint("json", checked_schema(schema, f"{param}.schema"), f"{param}.schema")


def _structured_outputs(said: Any) -> Constraint | None:
    if said is None:
        return None
    if not isinstance(said, Mapping):
        raise InvalidRequest("'structured_outputs' must be an object.", param="structured_outputs")
    given = {name: value for name, value in said.items() if value is not None}
    unknown = sorted(given.keys() - set(_KINDS))
    if unknown or len(given) != 1:
        raise InvalidRequest(
            f"'structured_outputs' must hold exactly one of: {', '.join(_KINDS)}.",
            param=f"structured_outputs.{unknown[0]}" if unknown else "structured_outputs",
        )
    ((kind, value),) = given.items()
    return _structured(kind, value, f"structured_outputs.{kind}")


def _structured(kind: str, value: Any, param: str) -> Constraint:
    if kind == "json":
        return Constraint("json", checked_schema(_decoded(value, param), param), param)
    if kind == "json_object":
        if value is not True:
            raise InvalidRequest(f"'{param}' must be true, or left out.", param=param)
        return Constraint("json", _OBJECT, param)
    if kind == "choice":
        return Constraint("choice", _choices(value, param), param)
    if kind == "structural_tag":
        return _structural_tag(_decoded(value, param), param)
    if kind == "regex":
        return Constraint("regex", _text(value, param, _LONGEST_REGEX), param)
    return Constraint("grammar", _text(value, param), param)


def _decoded(value: Any, param: str) -> Any:
    """JSON that may come as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(_text(value, param))
    except (ValueError, RecursionError):
        raise InvalidRequest(f"'{param}' is not valid JSON.", param=param) from None


def _structural_tag(value: Any, param: str) -> Constraint:
    if not isinstance(value, dict):
        raise InvalidRequest(f"'{param}' must be an object.", param=param)
    check_size(value, param)
    check_work(value, param)
    for part in parts(value):
        hard = is_hard(str(part.get("pattern", "")))
        if hard or part.get("type") in _NOT_IN_TAGS:
            raise InvalidRequest(
                f"'{param}' may hold no grammars, regular expressions or repetitions besides JSON, "
                "and no hard patterns in it.",
                param=param,
            )
    return Constraint("structural_tag", json.dumps(value), param)


def _choices(value: Any, param: str) -> list[str]:
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= _MOST_CHOICES
        or not all(isinstance(choice, str) and choice for choice in value)
        or sum(map(len, value)) > _LONGEST_TEXT
    ):
        raise InvalidRequest(
            f"'{param}' must be an array of 1 to {_MOST_CHOICES} strings, none of them empty and "
            f"not more than {_LONGEST_TEXT} characters in all.",
            param=param,
        )
    return value


def _text(value: Any, param: str, most: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or not value or len(value) > most:
        raise InvalidRequest(f"'{param}' must be a string of 1 to {most} characters.", param=param)
    return value
