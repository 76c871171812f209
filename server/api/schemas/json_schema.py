"""JSON schemas that callers send: whether they are any, and whether they can be compiled in time.

The meta-schema of JSON Schema takes a validator 0.3 ms a value; a tool-using client may send
thousands with every request. So the keywords are typed here, which takes a microsecond a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET

from server.errors import InvalidRequest

# OpenAI's limit is 10 levels of objects; what is nested deeper would exhaust a compiler's stack.
DEEPEST: Final = 32
MOST_VALUES: Final = 5000
# Keys, constants and patterns, which a compiler spells out; OpenAI allows 120,000 characters.
_MOST_TEXT: Final = 60_000
_LONGEST_PATTERN: Final = 512
# Beside these limits on their number an object may have any selection of its properties, which a
# grammar has to spell out: the work grows with the cube of their number.
_MOST_COUNTED_PROPERTIES: Final = 32
_COUNTS: Final = frozenset({"minProperties", "maxProperties"})

_Unset: TypeAlias = msgspec.UnsetType
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# A compiler may spell every item out.
_Items: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
_Number: TypeAlias = int | float
_Type: TypeAlias = Literal["array", "boolean", "integer", "null", "number", "object", "string"]


# Fields that are no names in Python.
_ALIASES: Final = {
    "ref": "$ref",
    "defs": "$defs",
    "not_": "not",
    "if_": "if",
    "else_": "else",
}


def _keyword(field: str) -> str:
    """JSON Schema's spelling of a field: ``min_items`` is ``minItems``."""
    first, *others = _ALIASES.get(field, field).split("_")
    return first + "".join(map(str.capitalize, others))


class _Keywords(msgspec.Struct, rename=_keyword):
    """The keywords of JSON Schema 2020-12 with the types of their values; others are let be."""

    type: _Type | Annotated[list[_Type], msgspec.Meta(min_length=1, max_length=7)] | _Unset = UNSET
    enum: Annotated[list[Any], msgspec.Meta(min_length=1)] | _Unset = UNSET
    ref: Annotated[str, msgspec.Meta(pattern="^#")] | _Unset = UNSET
    definitions: _Named | _Unset = UNSET
    defs: _Named | _Unset = UNSET
    properties: _Named | _Unset = UNSET
    pattern_properties: _Named | _Unset = UNSET
    dependent_schemas: _Named | _Unset = UNSET
    additional_properties: _Any | _Unset = UNSET
    unevaluated_properties: _Any | _Unset = UNSET
    property_names: _Any | _Unset = UNSET
    items: _Any | _Unset = UNSET
    unevaluated_items: _Any | _Unset = UNSET
    contains: _Any | _Unset = UNSET
    not_: _Any | _Unset = UNSET
    if_: _Any | _Unset = UNSET
    then: _Any | _Unset = UNSET
    else_: _Any | _Unset = UNSET
    prefix_items: _Several | _Unset = UNSET
    any_of: _Several | _Unset = UNSET
    one_of: _Several | _Unset = UNSET
    all_of: _Several | _Unset = UNSET
    required: list[str] | _Unset = UNSET
    min_properties: _Count | _Unset = UNSET
    max_properties: _Count | _Unset = UNSET
    min_items: _Items | _Unset = UNSET
    max_items: _Items | _Unset = UNSET
    min_length: _Count | _Unset = UNSET
    max_length: _Count | _Unset = UNSET
    unique_items: bool | _Unset = UNSET
    pattern: Annotated[str, msgspec.Meta(max_length=_LONGEST_PATTERN)] | _Unset = UNSET
    format: str | _Unset = UNSET
    minimum: _Number | _Unset = UNSET
    maximum: _Number | _Unset = UNSET
    exclusive_minimum: _Number | _Unset = UNSET
    exclusive_maximum: _Number | _Unset = UNSET
    multiple_of: _Number | _Unset = UNSET


_Any: TypeAlias = _Keywords | bool
_Several: TypeAlias = Annotated[list[_Any], msgspec.Meta(min_length=1)]
_Named: TypeAlias = dict[str, _Any]


def checked_schema(schema: Any, param: str) -> Any:
    """A JSON schema that is one.

    Raises:
        InvalidRequest: It is no schema, or too much to compile.
    """
    if not isinstance(schema, (dict, bool)):
        raise InvalidRequest(f"'{param}' must be a JSON schema: an object.", param=param)
    if schema is False:
        raise InvalidRequest(f"'{param}' allows no value at all.", param=param)
    check_size(schema, param)
    try:
        msgspec.convert(schema, _Any)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`").removeprefix(".")
        place = f" at '{where}'" if where else ""
        raise InvalidRequest(
            f"'{param}' is no valid JSON schema{place}: {reason}.", param=param
        ) from None
    check_work(schema, param)
    return schema


def check_size(value: Any, param: str, *, most: int = MOST_VALUES) -> None:
    """Refuse JSON that is nested too deeply or holds too much.

    Raises:
        InvalidRequest: It does.
    """
    level = [value]
    count = 0
    for _ in range(DEEPEST):
        count += len(level)
        level = [inner for outer in level for inner in _inner(outer)]
        if not level or count > most:
            break
    if count > most:
        raise InvalidRequest(f"'{param}' holds more than {most} values.", param=param)
    if level:
        raise InvalidRequest(f"'{param}' is nested more than {DEEPEST} levels deep.", param=param)


def check_work(schema: Any, param: str) -> None:
    """Refuse what takes a compiler of grammars minutes.

    Raises:
        InvalidRequest: It would.
    """
    text = 0
    for part in parts(schema):
        text += sum(map(len, part)) + _spelled(part)
        properties = part.get("properties")
        many = isinstance(properties, Mapping) and len(properties) > _MOST_COUNTED_PROPERTIES
        if many and part.keys() & _COUNTS:
            raise InvalidRequest(
                f"'{param}' limits the number of properties of an object that names more than "
                f"{_MOST_COUNTED_PROPERTIES}.",
                param=param,
            )
    if text > _MOST_TEXT:
        raise InvalidRequest(
            f"The names, constants and patterns of '{param}' have more than {_MOST_TEXT} "
            "characters.",
            param=param,
        )


def _spelled(part: Mapping[str, Any]) -> int:
    said = [part.get("const"), part.get("pattern"), *(part.get("enum") or ())]
    return sum(len(text) for text in said if isinstance(text, str))


def parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, Mapping):
        yield value
    for inner in _inner(value):
        yield from parts(inner)


def _inner(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
