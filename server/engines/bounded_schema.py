"""A JSON schema with an end: what a small model writes under it cannot go on for ever.

A grammar keeps a model from writing wrong JSON, not from writing endless strings, digits or items;
such an answer is cut by its length limit and is no JSON at all. So what the schema leaves open is
given a limit, chosen so that the longest value has about as many characters as there are tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Schema = Any  # a dict, or a bool

# Entries of an array or a free object that says nothing of its size.
_ENTRIES: Final = 8
_SHORTEST, _LONGEST = 16, 1024
# Integers that JSON's numbers hold exactly.
_LARGEST_INTEGER: Final = 2**53 - 1
_LARGEST_NUMBER: Final = 10**9
_SCALARS: Final = ("string", "number", "boolean", "null")
_CLOSED: Final = frozenset({"enum", "const"})
_CLOSED_STRING: Final = frozenset({"pattern", "format", "maxLength"})
# What says nothing of a value.
_ANNOTATIONS: Final = frozenset(
    {"$comment", "$id", "$schema", "default", "deprecated", "description", "examples"}
    | {"readOnly", "title", "writeOnly"}
)
_SAYS_OF_OTHERS: Final = frozenset(
    {"$ref", "additionalProperties", "patternProperties", "propertyNames", "unevaluatedProperties"}
)
_QUANTIFIER: Final = re.compile(r"[*+?{]")
_REPEATED: Final = re.compile(r"\)[*+?{]")
_MOST_QUANTIFIERS: Final = 16
_LONGEST_COUNTED: Final = 1024
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_UNIONS: Final = ("anyOf", "oneOf", "allOf")
_LISTS: Final = (*_UNIONS, "prefixItems")
_SINGLES: Final = ("items", "additionalProperties")


def bound(schema: Schema, tokens: int) -> Schema:
    """A copy of ``schema`` that allows some values fewer, all of them of limited length.

    Recursive schemas stay endless; nothing that the schema itself limits is changed. What stands
    inside ``not`` or ``if`` is left alone: limits there would allow more, not less.

    Args:
        tokens: Room for the value.
    """
    filled = _filled(schema)
    room = tokens - len(str(filled)) // 8  # for the keys
    return _limited(filled, max(_SHORTEST, min(room // _slots(filled), _LONGEST)))


def closed(schema: Schema) -> Schema:
    """A copy that allows no properties but those it names, where it does not speak of others.

    So a model comes to an end. Parts of an ``allOf`` stay open: each would refuse the others'.
    """
    if not isinstance(schema, Mapping) or "allOf" in schema:
        return schema
    copy = _mapped(schema, closed)
    if "properties" in copy and not copy.keys() & _SAYS_OF_OTHERS:
        copy["additionalProperties"] = False
    return copy


def eased(schema: Schema) -> Schema:
    """A copy without what takes xgrammar too long: hard patterns, and lengths that it counts."""
    if not isinstance(schema, Mapping):
        return schema
    copy = _mapped(schema, eased)
    if is_hard(str(copy.get("pattern", ""))):
        del copy["pattern"]
    by_pattern = copy.get("patternProperties")
    if isinstance(by_pattern, Mapping) and any(map(is_hard, by_pattern)):
        del copy["patternProperties"]
    for name in ("minLength", "maxLength"):
        if _count(copy, name, 0) > _LONGEST_COUNTED:
            del copy[name]
    return copy


def is_hard(pattern: str) -> bool:
    """Whether a regular expression could keep xgrammar busy; errs to yes."""
    return len(_QUANTIFIER.findall(pattern)) > _MOST_QUANTIFIERS or bool(_REPEATED.search(pattern))


def _filled(schema: Schema) -> Schema:
    """Say of what any value is what it may be: a string, a number, a truth value or null."""
    if schema is True:
        return {"type": list(_SCALARS)}
    if not isinstance(schema, Mapping):
        return schema
    full = _mapped(schema, _filled)
    if full.keys() <= _ANNOTATIONS:
        return full | {"type": list(_SCALARS)}
    if _may_be(full, "object") and "properties" not in full:
        full.setdefault("additionalProperties", _filled(True))
    if _may_be(full, "array") and "prefixItems" not in full:
        full.setdefault("items", _filled(True))
    return full


def _limited(schema: Schema, length: int) -> Schema:
    if not isinstance(schema, Mapping):
        return schema
    limited = _mapped(schema, lambda inner: _limited(inner, length))
    if schema.keys() & _CLOSED:
        return limited
    if _may_be(schema, "string") and not schema.keys() & _CLOSED_STRING:
        limited["maxLength"] = max(length, _count(schema, "minLength", 0))
    for kind, largest in (("integer", _LARGEST_INTEGER), ("number", _LARGEST_NUMBER)):
        if _may_be(schema, kind):
            _limit_number(limited, largest)
    if _may_be(schema, "array") and schema.get("items") is not False:
        fixed = len(schema.get("prefixItems") or ())
        limited.setdefault("maxItems", max(fixed + _ENTRIES, _count(schema, "minItems", 0)))
    if _may_be(schema, "object") and _open(schema):
        named = len(schema.get("properties") or ())
        most = max(named + _ENTRIES, _count(schema, "minProperties", 0))
        limited.setdefault("maxProperties", most)
    return limited


def _limit_number(schema: dict[str, Any], largest: int) -> None:
    """Limits on both sides, beyond whatever limit the schema has on one."""
    if not schema.keys() & {"minimum", "exclusiveMinimum"}:
        ends = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
        schema["minimum"] = min([-largest, *(end - largest for end in ends if end < 0)])
    if not schema.keys() & {"maximum", "exclusiveMaximum"}:
        ends = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
        schema["maximum"] = max([largest, *(end + largest for end in ends if end > 0)])


def _slots(schema: Schema) -> int:
    """How many values of open length the largest value holds; at least 1."""
    if not isinstance(schema, Mapping):
        return 1
    inner = sum(_slots(value) for value in (schema.get("properties") or {}).values())
    inner += sum(_slots(value) for value in schema.get("prefixItems") or ())
    inner += max((_slots(value) for name in _UNIONS for value in schema.get(name) or ()), default=0)
    if _may_be(schema, "array"):
        inner += _count(schema, "maxItems", _ENTRIES) * _slots(schema.get("items"))
    if _open(schema):
        # A key is a string of its own.
        entries = _count(schema, "maxProperties", _ENTRIES)
        inner += entries * (1 + _slots(schema["additionalProperties"]))
    return max(1, inner)


def _open(schema: Mapping[str, Any]) -> bool:
    """Whether objects may have properties that the schema does not name."""
    return schema.get("additionalProperties", False) is not False


def _count(schema: Mapping[str, Any], name: str, default: int) -> int:
    """A number of things; JSON Schema also takes ``8.0``."""
    return int(schema.get(name, default))


def _may_be(schema: Mapping[str, Any], kind: str) -> bool:
    said = schema.get("type")
    return said == kind or (isinstance(said, list) and kind in said)


def _mapped(schema: Mapping[str, Any], change: Callable[[Schema], Schema]) -> dict[str, Any]:
    """A copy whose inner schemas are changed."""
    copy = dict(schema)
    for name in _MAPS:
        if isinstance(copy.get(name), Mapping):
            copy[name] = {key: change(value) for key, value in copy[name].items()}
    for name in _LISTS:
        if isinstance(copy.get(name), list):
            copy[name] = [change(value) for value in copy[name]]
    for name in _SINGLES:
        if isinstance(copy.get(name), (Mapping, bool)):
            copy[name] = change(copy[name])
    return copy
