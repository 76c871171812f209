"""What a feature of the answering endpoints is, and what tables of them are written with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.e2e.harness import CAPITAL, INSTRUCT, RAW

Api = Literal["chat", "completions", "responses"]
MODELS: Mapping[Api, str] = {"chat": INSTRUCT, "completions": RAW, "responses": INSTRUCT}


@dataclass(frozen=True, slots=True)
class Feature:
    """One request.

    Attributes:
        api: The endpoint.
        name: What is tried.
        fields: Fields that the SDKs have arguments for, without model, stream and temperature 0.
        extra: Fields of this server's own, which Python's SDK takes as ``extra_body``.
        expected: Parts of the summary; ``schema`` is what a text or arguments must fulfil.
    """

    api: Api
    name: str
    fields: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name among all, for people and as a key."""
        return f"{self.api}: {self.name}"

    @property
    def request(self) -> dict[str, Any]:
        """All fields but ``stream`` and those of ``extra``."""
        return {"model": MODELS[self.api], "temperature": 0} | dict(self.fields)


def said(text: str, **fields: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": text} | fields


CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "continent": {"enum": ["Africa", "Asia", "Europe"]},
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 2},
    },
    "required": ["name", "continent", "rivers"],
    "additionalProperties": False,
}
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": PLACE,
    "strict": True,
}
TIME = WEATHER | {"name": "get_time", "description": "The time in a city."}
NESTED = [{"type": "function", "function": tool} for tool in (WEATHER, TIME)]
FLAT = [{"type": "function"} | tool for tool in (WEATHER, TIME)]
NAMED = {"type": "function", "function": {"name": "get_time"}}
ALLOWED = {"mode": "required", "tools": [NAMED]}
ASKED = [said("What is the weather in Paris?")]
CALL = {"id": "call_1", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CALLED = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": [CALL | {"type": "function"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 21 degrees."},
]
NAME_ME = [said("My name is Anna."), {"role": "assistant", "content": "Hello, Anna."}]
SAMPLED = {"temperature": 0.9, "top_p": 0.8}
PENALTIES = {"presence_penalty": 0.5, "frequency_penalty": 0.5}
# Everything OpenAI has that concerns no text.
ABOUT_NOTHING = {
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "service_tier": "auto",
    "user": "u",
}
# How the answer to CAPITAL begins, as the model's tokenizer has it.
TOKENS = ("The", " capital", " of", " France", " is")
IDS = [504, 3575, 282, 4649, 314]


def chat(name: str, expected: Mapping[str, Any] | None = None, **fields: Any) -> Feature:
    """A feature of chats; asks for the capital of France unless it has other messages."""
    extra = fields.pop("extra", {})
    if "max_completion_tokens" not in fields:
        fields = {"max_tokens": 48} | fields
    return Feature("chat", name, {"messages": [said(CAPITAL)]} | fields, extra, expected or {})


def text(name: str, expected: Mapping[str, Any] | None = None, **fields: Any) -> Feature:
    """A feature of completions."""
    extra = fields.pop("extra", {})
    request = {"prompt": "The sky is", "max_tokens": 8} | fields
    return Feature("completions", name, request, extra, expected or {})


def response(name: str, expected: Mapping[str, Any] | None = None, **fields: Any) -> Feature:
    """A feature of responses; asks for the capital of France unless it has other input."""
    extra = fields.pop("extra", {})
    request = {"input": CAPITAL, "max_output_tokens": 48} | fields
    return Feature("responses", name, request, extra, expected or {})


def schema_format(**fields: Any) -> dict[str, Any]:
    """A form that is a JSON schema, as chats and as responses write it."""
    return {"type": "json_schema"} | fields
