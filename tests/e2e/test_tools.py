"""Tool calls of a real model: whatever the schema, what comes back can be called."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openai import OpenAI

from tests.e2e.harness import INSTRUCT

TEXT, NUMBER, TRUTH = {"type": "string"}, {"type": "number"}, {"type": "boolean"}


def record(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


NODE = record("value", value=NUMBER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
SCHEMAS: dict[str, dict[str, Any]] = {
    "nothing": {"type": "object", "properties": {}},
    "text": record("city", city=TEXT),
    "optional": record("", city=TEXT, unit=TEXT),
    "choice": record("unit", unit={"enum": ["celsius", "fahrenheit"]}),
    "constant": record("v", v={"const": 3}),
    "integer": record("n", n={"type": "integer"}),
    "range": record("n", n={"type": "integer", "minimum": 3, "maximum": 12}),
    "number": record("x y", x=NUMBER, y={"type": "number", "exclusiveMinimum": 0}),
    "truth": record("on", on=TRUTH),
    "nullable": record("note", note={"type": ["string", "null"]}),
    "lengths": record("code", code={"type": "string", "minLength": 3, "maxLength": 5}),
    "pattern": record("day", day={"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}),
    "date": record("day", day={"type": "string", "format": "date"}),
    "list": record("tags", tags={"type": "array", "items": TEXT}),
    "short-list": record(
        "tags", tags={"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 3}
    ),
    "nested": record("where", where=record("at", at=record("lat lon", lat=NUMBER, lon=NUMBER))),
    "free": {"type": "object"},
    "anything": record("value", value={}),
    "either": record("who", who={"anyOf": [{"type": "integer"}, record("name", name=TEXT)]}),
    "recursive": record("head", head={"$ref": "#/$defs/node"}) | {"$defs": {"node": NODE}},
}
MESSAGES: Any = [{"role": "user", "content": "Please call the function for Rome, Italy."}]


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}}


def streamed(client: OpenAI, **fields: Any) -> tuple[dict[int, list[str]], str, str | None]:
    """Calls as [name, arguments], text and finish reason, put together as a client does."""
    calls: dict[int, list[str]] = {}
    text, finish = "", None
    for chunk in client.chat.completions.create(stream=True, **fields):
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
        for piece in choice.delta.tool_calls or ():
            call = calls.setdefault(piece.index, ["", ""])
            assert piece.function is not None
            call[0] += piece.function.name or ""
            call[1] += piece.function.arguments or ""
    return calls, text, finish


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", SCHEMAS)
def test_calls_that_must_be_made(name: str, named: bool, client: OpenAI) -> None:
    fields: dict[str, Any] = {
        "model": INSTRUCT,
        "messages": MESSAGES,
        "tools": [tool(name)],
        "tool_choice": {"type": "function", "function": {"name": name}} if named else "required",
        "parallel_tool_calls": False,
        "max_tokens": 400,
        "temperature": 0,
    }
    choice = client.chat.completions.create(**fields).choices[0]
    (call,) = choice.message.tool_calls or ()
    assert call.type == "function"
    assert re.fullmatch("call_[0-9a-f]{24}", call.id)
    # A list that has no end of its own may run into the limit.
    ended = "stop" if named else "tool_calls"
    assert choice.finish_reason == ended or (choice.finish_reason, name) == ("length", "recursive")
    if choice.finish_reason == ended:
        Draft202012Validator(SCHEMAS[name]).validate(json.loads(call.function.arguments))
    calls, text, finish = streamed(client, **fields)
    assert calls == {0: [name, call.function.arguments]}
    assert (text, finish) == ("", choice.finish_reason)


def test_several_choices_with_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=INSTRUCT,
        messages=MESSAGES,
        tools=[tool("text"), tool("integer")],  # type: ignore[list-item]
        tool_choice="required",
        n=3,
        seed=1,
        logprobs=True,
        max_tokens=300,
    )
    for choice in answer.choices:
        assert choice.message.tool_calls
        for call in choice.message.tool_calls:
            assert call.type == "function"
            assert call.function.name in ("text", "integer")
        assert choice.logprobs is not None
        assert choice.logprobs.content


def test_a_tool_that_is_not_called(client: OpenAI) -> None:
    fields: dict[str, Any] = {
        "model": INSTRUCT,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "tools": [tool("text")],
        "max_tokens": 30,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**fields, tool_choice="none").choices[0]
    assert (whole.message.tool_calls, bool(whole.message.content)) == (None, True)
    auto = client.chat.completions.create(**fields).choices[0]
    calls, text, finish = streamed(client, **fields)
    assert text == (auto.message.content or "")
    assert len(calls) == len(auto.message.tool_calls or ())
    assert finish == auto.finish_reason


def test_a_stop_string_inside_a_call(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=INSTRUCT,
        messages=MESSAGES,
        tools=[tool("text")],  # type: ignore[list-item]
        tool_choice="required",
        stop='"city":',
        max_tokens=60,
    )
    assert answer.choices[0].finish_reason == "stop"


def test_very_many_tools(http: httpx.Client) -> None:
    names = [f"tool_{number}" for number in range(128)]
    parameters = record("a b", a=TEXT, b=record("c", c={"type": "array", "items": NUMBER}), d=TRUTH)
    # The prompt is longer than the model's context: refused, and at once.
    answer = http.post(
        "/v1/chat/completions",
        json={
            "model": INSTRUCT,
            "messages": MESSAGES,
            "max_tokens": 100,
            "tool_choice": "required",
            "tools": [
                {"type": "function", "function": {"name": name, "parameters": parameters}}
                for name in names
            ],
        },
    )
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert http.get("/health").status_code == 200
