"""Schemas that come to an end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from server.engines.bounded_schema import bound, closed, eased, is_hard

SCALARS = {"type": ["string", "number", "boolean", "null"]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"type": "string", "maxLength": 100}),
        ({"type": "string", "minLength": 200}, {"type": "string", "minLength": 200}),
        ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 5}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "integer"}, {"type": "integer", "minimum": 1 - 2**53, "maximum": 2**53 - 1}),
        (
            {"type": "number", "minimum": 5},
            {"type": "number", "minimum": 5, "maximum": 5 + 10**9},
        ),
        (
            {"type": "number", "exclusiveMaximum": -(10**12)},
            {
                "type": "number",
                "exclusiveMaximum": -(10**12),
                "minimum": -(10**12) - 10**9,
            },
        ),
        (
            {"type": "array", "items": {"type": "boolean"}},
            {"type": "array", "items": {"type": "boolean"}, "maxItems": 8},
        ),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}}),
        ({"$ref": "#"}, {"$ref": "#"}),
        ({"not": {"type": "string"}}, {"not": {"type": "string"}}),
    ],
)
def test_limits(schema: Any, expected: Any) -> None:
    if "minLength" in schema:
        expected = expected | {"maxLength": 200}
    assert bound(schema, 100 + len(str(schema)) // 8) == expected


def test_what_says_nothing_is_a_scalar() -> None:
    for schema in (True, {}, {"description": "anything"}):
        bounded = bound({"type": "object", "properties": {"a": schema}}, 200)["properties"]["a"]
        assert bounded["type"] == SCALARS["type"]
        assert bounded["maxLength"] > 100


def test_free_objects_hold_a_few_scalars() -> None:
    bounded = bound({"type": "object"}, 2000)
    assert bounded["maxProperties"] == 8
    assert bounded["additionalProperties"]["type"] == SCALARS["type"]


def test_room_is_shared() -> None:
    four = {"type": "object", "properties": {name: {"type": "string"} for name in "abcd"}}
    lengths = {value["maxLength"] for value in bound(four, 1000)["properties"].values()}
    assert lengths == {246}
    assert bound({"type": "string"}, 10**9)["maxLength"] == 1024
    assert bound(four, 1)["properties"]["a"]["maxLength"] == 16


KEYS = st.sampled_from(["a", "b", "c"])
SMALL = st.integers(0, 20)


def optional(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional=fields)


LEAVES = st.one_of(
    st.just(True),
    st.just({}),
    st.builds(lambda more: {"type": "string"} | more, optional(minLength=SMALL)),
    st.builds(
        lambda kind, more: {"type": kind} | more,
        st.sampled_from(["integer", "number"]),
        optional(
            minimum=st.integers(-(10**12), 10**12), exclusiveMaximum=st.integers(-(10**12), 10**12)
        ),
    ),
    st.just({"type": ["string", "null"]}),
    st.just({"enum": ["x", 1]}),
    st.just({"type": "boolean"}),
)


def inner(schemas: Any) -> Any:
    return st.one_of(
        st.builds(
            lambda items, more: {"type": "array", "items": items} | more,
            schemas,
            optional(minItems=st.integers(0, 3), maxItems=st.integers(3, 12)),
        ),
        st.builds(
            lambda properties, more: {"type": "object", "properties": properties} | more,
            st.dictionaries(KEYS, schemas, max_size=3),
            optional(
                required=st.lists(KEYS, unique=True, max_size=2), additionalProperties=schemas
            ),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(schemas, min_size=1, max_size=3)),
    )


SCHEMAS = st.recursive(LEAVES, inner, max_leaves=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30) | st.floats(-1e10, 1e10),
    lambda values: st.lists(values, max_size=10) | st.dictionaries(KEYS, values, max_size=4),
    max_leaves=8,
)


@given(SCHEMAS, VALUES, st.integers(0, 3000))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_becomes_valid(schema: Any, value: Any, tokens: int) -> None:
    for narrowed in (bound(schema, tokens), closed(schema)):
        Draft202012Validator.check_schema(narrowed)
        if Draft202012Validator(narrowed).is_valid(value):
            assert Draft202012Validator(schema).is_valid(value)


@given(SCHEMAS, st.integers(0, 3000))
@settings(max_examples=60, deadline=None)
def test_xgrammar_compiles_it(schema: Any, tokens: int) -> None:
    xgrammar = pytest.importorskip("xgrammar")
    try:
        xgrammar.Grammar.from_json_schema(json.dumps(schema))
    except RuntimeError:
        return  # nothing is valid under it, and xgrammar sees that
    xgrammar.Grammar.from_json_schema(json.dumps(bound(schema, tokens)))


def test_closed_objects() -> None:
    inside = {"type": "object", "properties": {"a": {"properties": {}}}}
    assert closed(inside)["additionalProperties"] is False
    assert closed(inside)["properties"]["a"]["additionalProperties"] is False
    for open_ in ({"properties": {}, "additionalProperties": True}, {"allOf": [inside]}):
        assert closed(open_) == open_


@pytest.mark.parametrize(
    ("pattern", "hard"),
    [
        (r"^\d{4}-\d{2}-\d{2}$", False),
        ("^[a-z]+(foo|bar)$", False),
        ("(.?){100}", True),
        ("(a+)+b", True),
        (".?" * 17, True),
    ],
)
def test_hard_patterns(pattern: str, hard: bool) -> None:
    assert is_hard(pattern) is hard
    said = {"properties": {"a": {"type": "string", "pattern": pattern, "maxLength": 5000}}}
    kept = {"type": "string"} if hard else {"type": "string", "pattern": pattern}
    assert eased(said) == {"properties": {"a": kept}}
    assert ("patternProperties" in eased({"patternProperties": {pattern: {}}})) is not hard
