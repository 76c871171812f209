"""Tools over the Messages API: what the model is offered, and the calls that come back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from anthropic.types import Message

from server.engines.base import Delta
from server.engines.output import Tool, ToolUse
from tests.support.messages import CLOCK, URL, WEATHER, ask, events, prompt, text
from tests.support.ranch import Ranch
from tests.support.spelled import SpelledFormat

TOOLS = (
    Tool(
        name="weather",
        description="Tells the weather.",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    ),
    Tool(name="clock", parameters={"type": "object", "properties": {}}),
)
# Anthropic's tool_choice -> how the tools may be used.
CHOICES: list[tuple[dict[str, Any] | None, dict[str, Any]]] = [
    (None, {}),
    ({"type": "auto"}, {}),
    ({"type": "auto", "disable_parallel_tool_use": True}, {"parallel": False}),
    ({"type": "any"}, {"choice": "required"}),
    ({"type": "any", "disable_parallel_tool_use": False}, {"choice": "required"}),
    ({"type": "tool", "name": "clock"}, {"choice": "required", "name": "clock"}),
    (
        {"type": "tool", "name": "clock", "disable_parallel_tool_use": True},
        {"choice": "required", "name": "clock", "parallel": False},
    ),
]


def begun(ranch: Ranch) -> ToolUse | None:
    """What the last parser was told of tools."""
    assert isinstance(ranch.format, SpelledFormat)
    return ranch.format.begun[-1][0]


@pytest.mark.parametrize(("choice", "expected"), CHOICES)
async def test_tools_and_their_choice(
    choice: dict[str, Any] | None,
    expected: dict[str, Any],
    thinker: Ranch,
    thinking: httpx.AsyncClient,
) -> None:
    body = ask("thinker", tools=[WEATHER, CLOCK | {"type": "custom"}], tool_choice=choice)
    assert (await thinking.post(URL, json=body)).status_code == 200
    assert begun(thinker) == ToolUse(tools=TOOLS, **expected)
    assert await prompt(thinker) == "[tools: weather clock][user]Hi[assistant]"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [WEATHER], "tool_choice": {"type": "none"}},
        {"tools": []},
        {"tools": [], "tool_choice": {"type": "auto"}},
        {"tools": None, "tool_choice": {"type": "none"}},
    ],
)
async def test_no_tools(
    fields: dict[str, Any], thinker: Ranch, thinking: httpx.AsyncClient
) -> None:
    assert (await thinking.post(URL, json=ask("thinker", **fields))).status_code == 200
    assert begun(thinker) is None
    assert await prompt(thinker) == "[user]Hi[assistant]"


async def test_strict_tools(thinker: Ranch, thinking: httpx.AsyncClient) -> None:
    await thinking.post(URL, json=ask("thinker", tools=[WEATHER | {"strict": True}]))
    use = begun(thinker)
    assert use is not None
    assert use.tools[0].strict is True


async def test_calls(thinker: Ranch, thinking: httpx.AsyncClient) -> None:
    thinker.play(
        Delta(0, "Let me see.", [1]),
        Delta(0, '!weather {"city": ', [1]),
        Delta(0, '+"Köln"}', [1]),
        Delta(0, "!clock ", [1]),
        Delta(0, "+{}", [1], "stop"),
    )
    answer = await thinking.post(URL, json=ask("thinker", tools=[WEATHER, CLOCK]))
    body = answer.json()
    assert body["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "call_1", "name": "clock", "input": {}},
    ]
    assert (body["stop_reason"], body["stop_sequence"]) == ("tool_use", None)
    Message.model_validate_json(answer.content, strict=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_the_caller_named_is_a_reason_too(
    stream: bool, thinker: Ranch, thinking: httpx.AsyncClient
) -> None:
    thinker.play(Delta(0, "!clock {}", [1], "stop"))
    choice = {"type": "tool", "name": "clock"}
    body = ask("thinker", tools=[CLOCK], tool_choice=choice, stream=stream)
    answer = await thinking.post(URL, json=body)
    end = events(answer.content)[-2]["delta"] if stream else answer.json()
    assert end["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"city": "Köl', {}),
        ('{"city": "Köln", "da', {"city": "Köln"}),
        ('{"days": [1, 2', {"days": [1, 2]}),
        ("", {}),
        ("[1]", {}),
        ("Köln", {}),
    ],
)
async def test_arguments_that_are_cut_off(
    written: str, read: dict[str, Any], thinker: Ranch, thinking: httpx.AsyncClient
) -> None:
    thinker.play(Delta(0, "!weather " + written, [1]), Delta(0, "", [1], "length"))
    body = (await thinking.post(URL, json=ask("thinker", tools=[WEATHER]))).json()
    assert body["content"][0]["input"] == read
    assert body["stop_reason"] == "max_tokens"
