"""What tests of stored responses share."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from openai._models import construct_type
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from server.engines.base import Delta
from server.engines.output import ToolUse
from tests.support.ranch import Ranch

URL = "/v1/responses"
_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_ID = re.compile(r"\b(resp|msg|rs|fc|fco|conv|call)_[0-9a-f]{32}")


def ask(**fields: Any) -> dict[str, Any]:
    """A request for a response."""
    return {"model": "tiny", "input": "Hi"} | fields


def settled(value: Any) -> Any:
    """JSON without what changes from call to call: ids are numbered, times are 1."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        kind = found.group(1)
        count = sum(known.startswith(f"{kind}_") for known in names.values())
        return names.setdefault(found.group(), f"{kind}_{count + 1}")

    text = _ID.sub(name, json.dumps(value))
    return json.loads(re.sub(r'"(created_at|completed_at)": \d{10}', r'"\1": 1', text))


def response_events(content: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each of them valid, named and numbered as it should be."""
    found = []
    for at, frame in enumerate(content.decode().removesuffix("\n\n").split("\n\n")):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == at
        _EVENTS.validate_python(event)
        found.append(event)
    return found


def short(event: dict[str, Any]) -> str:
    """An event in a few characters: its type and what is new in it."""
    kind = event["type"].removeprefix("response.")
    return " ".join([kind, *(event[key] for key in ("delta", "text", "arguments") if key in event)])


def valid(answer: httpx.Response) -> dict[str, Any]:
    """The body of a good answer that is a response as OpenAI's types have it."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    Response.model_validate(body)
    # The SDK's own way of reading finds a class for every item.
    assert isinstance(construct_type(type_=Response, value=body), Response)
    return body


async def prompt(ranch: Ranch) -> str:
    """The last prompt as text."""
    formatter = await ranch.herd.resolve("tiny").formatter()
    return formatter.tokenizer.decode(ranch.request.prompt_token_ids, skip_special_tokens=False)


class Scribe:
    """An `OutputFormat` and its parser for scripts whose deltas are parsed already.

    Attributes:
        tools: The tools of the last request.
    """

    reasons = True

    def __init__(self) -> None:
        self.tools: ToolUse | None = None
        self.constraint: Any = None
        self.reasoning_ended: bool | None = None
        self.skip_special_tokens = True

    def begin(self, tools: ToolUse | None, constraint: Any, **_: Any) -> Scribe:
        self.tools = tools
        self.constraint = constraint
        return self

    def parse(self, delta: Delta) -> None:
        """Leave it as it is."""
