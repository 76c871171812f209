"""What an answer must look like: what reaches the engine, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from server.engines.base import Constraint
from tests.support.ranch import Ranch, chat

URL = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TAG = {"type": "structural_tag", "format": {"type": "any_text"}}


def schema_format(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema} | more}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"structured_outputs": None}, None),
        (
            {"response_format": {"type": "json_object"}},
            Constraint("json", {"type": "object"}, "response_format"),
        ),
        (
            {"response_format": schema_format(SCHEMA, strict=True)},
            Constraint("json", SCHEMA, "response_format.json_schema.schema"),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            Constraint("json", {"type": "object"}, "response_format.json_schema"),
        ),
        (
            {"response_format": TAG},
            Constraint("structural_tag", json.dumps(TAG), "response_format"),
        ),
        (
            {"structured_outputs": {"json": SCHEMA, "regex": None}},
            Constraint("json", SCHEMA, "structured_outputs.json"),
        ),
        (
            {"structured_outputs": {"json": json.dumps(SCHEMA)}},
            Constraint("json", SCHEMA, "structured_outputs.json"),
        ),
        (
            {"structured_outputs": {"json_object": True}},
            Constraint("json", {"type": "object"}, "structured_outputs.json_object"),
        ),
        (
            {"structured_outputs": {"regex": "a+"}},
            Constraint("regex", "a+", "structured_outputs.regex"),
        ),
        (
            {"structured_outputs": {"choice": ["a", "b"]}},
            Constraint("choice", ["a", "b"], "structured_outputs.choice"),
        ),
        (
            {"structured_outputs": {"grammar": 'root ::= "a"'}},
            Constraint("grammar", 'root ::= "a"', "structured_outputs.grammar"),
        ),
        (
            {"structured_outputs": {"structural_tag": json.dumps(TAG)}},
            Constraint("structural_tag", json.dumps(TAG), "structured_outputs.structural_tag"),
        ),
    ],
)
async def test_constraints(
    fields: dict[str, Any],
    expected: Constraint | None,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    for url, body in ((URL, chat()), ("/v1/completions", {"model": "tiny", "prompt": "Hi"})):
        answer = await client.post(url, json=body | fields)
        assert answer.status_code == 200
        assert ranch.request.sampling.constraint == expected


def nested(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


# A schema -> the end of the message.
NO_SCHEMAS = [
    ({"minLength": "x"}, "at 'minLength': Expected `int`, got `str`."),
    ({"minLength": True}, "at 'minLength': Expected `int`, got `bool`."),
    ({"maxItems": -1}, "at 'maxItems': Expected `int` >= 0."),
    ({"maxItems": None}, "at 'maxItems': Expected `int`, got `null`."),
    ({"maxItems": 10**400}, "at 'maxItems': Expected `int` <= 9007199254740992."),
    ({"properties": []}, "at 'properties': Expected `object`, got `array`."),
    ({"properties": {"a": 5}}, "Expected `bool | object`, got `int`."),
    ({"type": "text"}, "at 'type': Invalid enum value 'text'."),
    ({"type": []}, "at 'type': Expected `array` of length >= 1."),
    ({"enum": []}, "at 'enum': Expected `array` of length >= 1."),
    ({"anyOf": {}}, "at 'anyOf': Expected `array`, got `object`."),
    ({"required": [1]}, "at 'required[0]': Expected `str`, got `int`."),
    ({"$ref": "http://x/y"}, "at '$ref': Expected `str` matching regex '^#'."),
    ({"pattern": "a" * 513}, "at 'pattern': Expected `str` of length <= 512."),
    (nested(32), "is nested more than 32 levels deep."),
    ({"enum": list(range(5001))}, "holds more than 5000 values."),
    ({"enum": ["x" * 60_001]}, "have more than 60000 characters."),
    (
        {"properties": {f"p{i}": {} for i in range(33)}, "minProperties": 20},
        "limits the number of properties of an object that names more than 32.",
    ),
]


@pytest.mark.parametrize(("schema", "ending"), NO_SCHEMAS)
async def test_no_schemas(
    schema: Any, ending: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    for fields, param in (
        ({"response_format": schema_format(schema)}, "response_format.json_schema.schema"),
        ({"structured_outputs": {"json": schema}}, "structured_outputs.json"),
    ):
        # Python's own encoder: 10 to the 400th is more than orjson writes.
        answer = await client.post(
            URL, content=json.dumps(chat(**fields)), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400
        if 10**400 not in schema.values():  # that is no number of the body's parser
            found = answer.json()["error"]
            assert (found["param"], found["message"].endswith(ending)) == (param, True)
    assert ranch.requests == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "json_object"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": ["text"]}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": schema_format(5)}, "response_format.json_schema.schema"),
        ({"response_format": schema_format({}, name="a b")}, "response_format.json_schema.name"),
        ({"structured_outputs": []}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"backend": "x"}}, "structured_outputs.backend"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": "a" * 4097}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "a" * 32_769}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": [""]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", 1]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a" * 32_769]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[" * 5000}}, "structured_outputs.json"),
        ({"structured_outputs": {"structural_tag": 5}}, "structured_outputs.structural_tag"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
        ),
    ],
)
async def test_wrong_constraints(
    fields: dict[str, Any], param: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=chat(**fields))
    found = answer.json()["error"]
    assert (answer.status_code, found["param"]) == (400, param)
    assert found["type"] == "invalid_request_error"
    assert ranch.requests == []
