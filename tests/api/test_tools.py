"""Tool calls and reasoning on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from server.engines.base import Constraint, Delta
from tests.support.parsers import TagFormat
from tests.support.ranch import Ranch, chat, events, in_process, user

URL = "/v1/chat/completions"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "time", "description": "Now."}},
]
CALLS = 'Look: <c>weather {"city": "Rome"}</c><c>time {}</c>'


@pytest.fixture(autouse=True)
def tags(ranch: Ranch) -> TagFormat:
    ranch.format = TagFormat()
    return ranch.format


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


async def test_calls(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, CALLS, [1, 2], "stop"))
    choice = (await client.post(URL, json=chat(tools=TOOLS))).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Look: ",
        "refusal": None,
        "tool_calls": [
            {
                "id": "call_00",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
            },
            {"id": "call_01", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize(
    ("fields", "asked", "reduce"),
    [
        (
            {},
            "your messages resulted in 599 tokens (21 in the messages, 578 in the tools)",
            "messages or tools",
        ),
        (
            {"max_tokens": 9},
            "you requested 608 tokens (21 in the messages, 578 in the tools, 9 in the completion)",
            "messages, tools, or completion",
        ),
        (
            {"tool_choice": "none", "max_tokens": 64},
            "(21 in the messages, 64 in the",
            "messages or",
        ),
    ],
)
async def test_tools_that_do_not_fit_are_told_from_messages(
    fields: dict[str, Any], asked: str, reduce: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=chat("strict", tools=TOOLS, **fields))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert asked in error["message"]
    assert f"Please reduce the length of the {reduce}" in error["message"]


async def test_a_message_of_calls_alone_has_no_content(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "<c>time {}</c>", [1], "stop"))
    choice = (await client.post(URL, json=chat(tools=TOOLS))).json()["choices"][0]
    assert choice["message"]["content"] is None


async def test_streamed_calls(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, CALLS, [1, 2], "stop"))
    *chunks, done = events((await client.post(URL, json=chat(tools=TOOLS, stream=True))).content)
    assert done == "[DONE]"
    head = {"index": 0, "id": "call_00", "type": "function"}
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Look: "},
        {"tool_calls": [head | {"function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Rome"}'}}]},
        {
            "tool_calls": [
                head | {"index": 1, "id": "call_01", "function": {"name": "time", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_each_choice_has_calls_of_its_own(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(1, "<c>time {}</c>", [1], "stop"), Delta(0, "<c>time {}</c>", [1], "length"))
    choices = (await client.post(URL, json=chat(tools=TOOLS, n=2))).json()["choices"]
    assert [
        (choice["message"]["tool_calls"][0]["id"], choice["finish_reason"]) for choice in choices
    ] == [("call_00", "length"), ("call_10", "tool_calls")]


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [
        ("required", ["weather", "time"]),
        (function("time"), ["time"]),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [function("time")]},
            },
            ["time"],
        ),
    ],
)
async def test_calls_that_must_be_made(
    choice: Any, allowed: list[str], ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await client.post(URL, json=chat(tools=TOOLS, tool_choice=choice))
    assert ranch.request.sampling.constraint == Constraint("choice", allowed, "tools")


async def test_a_named_call_ends_with_stop(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, "<c>time {}</c>", [1], "stop"))
    body = chat(tools=TOOLS, tool_choice=function("time"))
    choice = (await client.post(URL, json=body)).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert len(choice["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}])
async def test_without_tools_text_stays_text(
    fields: dict[str, Any], ranch: Ranch, tags: TagFormat, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, CALLS, [1], "stop"))
    choice = (await client.post(URL, json=chat(**fields))).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (CALLS, "stop")
    assert tags.asked == []
    assert len(ranch.request.prompt_token_ids) == 21


async def test_what_the_format_is_told(tags: TagFormat, client: httpx.AsyncClient) -> None:
    body = chat(tools=TOOLS[1:], max_tokens=9, parallel_tool_calls=False, regex=None)
    await client.post(URL, json=body)
    (asked,) = tags.asked
    use = asked["tools"]
    assert (use.choice, use.name, use.parallel, asked["max_tokens"]) == ("auto", None, False, 9)
    assert [tool.as_dict() for tool in use.tools] == [
        {
            "type": "function",
            "function": {
                "name": "time",
                "parameters": {"type": "object", "properties": {}},
                "description": "Now.",
            },
        }
    ]


async def test_token_ids_beside_calls(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.script = lambda _: [Delta(0, "<c>time {}</c>", [7, 8], "stop")]
    body = chat(tools=TOOLS, return_token_ids=True)
    choice = (await client.post(URL, json=body)).json()["choices"][0]
    assert choice["token_ids"] == [7, 8]
    streamed = events((await client.post(URL, json=body | {"stream": True})).content)
    ids = [number for chunk in streamed[:-1] for number in chunk["choices"][0].get("token_ids", [])]
    assert ids == [7, 8]


async def test_output_that_cannot_be_read(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, "<c>time {</c>", [1], "stop"))
    answer = await client.post(URL, json=chat(tools=TOOLS))
    assert answer.status_code == 500
    assert (await client.get("/health")).status_code == 200


async def test_a_conversation_with_calls(ranch: Ranch, client: httpx.AsyncClient) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    messages = [
        user("When?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    prompts = []
    for said in ("{}", "no JSON", '{"a": 1}', ""):
        call["function"] = {"name": "time", "arguments": said}
        answer = await client.post(URL + "/render", json=chat(messages=messages, tools=TOOLS))
        assert answer.status_code == 200
        prompts.append(answer.json()["prompt"])
    assert '{"name": "time", "arguments": {}}' in prompts[0]
    assert '{"name": "time", "arguments": "no JSON"}' in prompts[1]
    assert '{"name": "time", "arguments": {"a": 1}}' in prompts[2]
    assert "<tool_response>\nnoon\n</tool_response>" in prompts[3]


def tool(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f"} | fields}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools.0"),
        ({"tools": [{}]}, "tools.0.type"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": []}]}, "tools.0.function"),
        ({"tools": [tool(name="")]}, "tools.0.function.name"),
        ({"tools": [tool(name="{{ x }}")]}, "tools.0.function.name"),
        ({"tools": [tool(name="a\n")]}, "tools.0.function.name"),
        ({"tools": [tool(name=5)]}, "tools.0.function.name"),
        ({"tools": [tool(description=5)]}, "tools.0.function.description"),
        ({"tools": [tool(strict="yes")]}, "tools.0.function.strict"),
        ({"tools": [tool(), tool()]}, "tools"),
        ({"tools": [tool(name=f"f{i}") for i in range(129)]}, "tools"),
        ({"tools": [tool(parameters="x")]}, "tools.0.function.parameters"),
        ({"tools": [tool(parameters={"type": "array"})]}, "tools.0.function.parameters"),
        ({"tools": [tool(parameters={"properties": []})]}, "tools.0.function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": True}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": ["auto"]}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"tools": TOOLS, "tool_choice": function("nope")}, "tool_choice.function.name"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": []}},
            "tool_choice.allowed_tools",
        ),
        ({"tools": TOOLS, "parallel_tool_calls": 1}, "parallel_tool_calls"),
    ],
)
async def test_wrong_tools(
    fields: dict[str, Any], param: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=chat(**fields))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert ranch.requests == []


@pytest.mark.parametrize(
    ("calls", "status"),
    [
        (5, 400),
        ("x", 400),
        (["x"], 400),
        ([None], 400),
        ([{}], 200),
        ([{"function": None}], 200),
        ([{"function": "f"}], 200),
        ([{"function": {"name": 5, "arguments": [1]}}], 200),
        ([{"function": {"name": {"a": 1}, "arguments": None}}], 200),
    ],
)
async def test_odd_calls_in_messages(calls: Any, status: int, client: httpx.AsyncClient) -> None:
    messages = [user(), {"role": "assistant", "content": "x", "tool_calls": calls}, user()]
    for tools in (TOOLS, None):
        answer = await client.post(URL, json=chat(messages=messages, tools=tools))
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["error"]["param"].startswith("messages.1.tool_calls")


REASONS = {"id": "thinker", "template": "chatml", "reasoning_parser": "tags"}


async def test_reasoning(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch([REASONS])
    ranch.format = TagFormat(reasons=True)
    ranch.script = lambda _: [Delta(0, "<r>hm hm</r>Yes", [1, 2, 3], "stop")]
    async with in_process(ranch) as thinker:
        whole = (await thinker.post(URL, json=chat("thinker"))).json()
        hidden = await thinker.post(URL, json=chat("thinker", include_reasoning=False))
        streamed = await thinker.post(
            URL, json=chat("thinker", stream=True, stream_options={"include_usage": True})
        )
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Yes",
        "refusal": None,
        "reasoning": "hm hm",
        "reasoning_content": "hm hm",
    }
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert "reasoning" not in hidden.json()["choices"][0]["message"]
    chunks = events(streamed.content)[:-1]
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": ""},
        {"reasoning": "hm hm", "reasoning_content": "hm hm"},
        {"content": "Yes"},
        {},
    ]
    assert chunks[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert ranch.request.reasoning_ended is False
