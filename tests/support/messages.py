"""Requests, errors and events of the Messages API, and a model that thinks and calls tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.ranch import MODELS, Ranch, user, write_tiny_model
from tests.support.spelled import SpelledFormat

URL = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}

# Shows everything that a template can be given.
_TEMPLATE = (
    "{% if tools %}[tools:{% for tool in tools %} {{ tool.function.name }}{% endfor %}]{% endif %}"
    "{% for message in messages %}[{{ message.role }}"
    "{% if message.name %} {{ message.name }}{% endif %}]"
    "{% if message.reasoning_content %}({{ message.reasoning_content }}){% endif %}"
    "{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "<{{ call.id }} {{ call.function.name }} {{ call.function.arguments | tojson }}>"
    "{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant"
    "{% if enable_thinking is defined %} {{ enable_thinking }}{% endif %}]{% endif %}"
)


def ask(model: str = "tiny", **fields: Any) -> dict[str, Any]:
    """A request for an answer."""
    return {"model": model, "max_tokens": 100, "messages": [user()]} | fields


def blocks(*content: dict[str, Any], role: str = "user") -> dict[str, Any]:
    """A message of content blocks."""
    return {"role": role, "content": list(content)}


def text(said: str) -> dict[str, Any]:
    """A text block."""
    return {"type": "text", "text": said}


def refusal(kind: str, message: str, request_id: str) -> dict[str, Any]:
    """Anthropic's error envelope."""
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }


def events(content: bytes) -> list[Any]:
    """The data of a stream's events but for pings; each has its type as its name too."""
    found = []
    for event in content.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return [event for event in found if event["type"] != "ping"]


def thinking_ranch(directory: Path, *models: Mapping[str, Any], **options: Any) -> Ranch:
    """A ranch whose model ``thinker`` reasons and calls tools, as `SpelledParser` reads it.

    Args:
        models: Entries besides it and `MODELS`.
        options: For `create_app`.
    """
    model = write_tiny_model(directory / "thinker")
    (model / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")
    thinker = {"id": "thinker", "template": "auto", "reasoning_parser": "spelled"}
    ranch = Ranch(model, directory / "cache", [thinker, *MODELS, *models], **options)
    ranch.format = SpelledFormat()
    return ranch


async def prompt(ranch: Ranch, model: str = "thinker") -> str:
    """What the engine was last asked to continue, as text."""
    formatter = await ranch.herd.resolve(model).formatter()
    return formatter.tokenizer.decode(ranch.request.prompt_token_ids, skip_special_tokens=False)
