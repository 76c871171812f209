"""Whole responses: the object, the input and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from server.engines.base import Delta, PositionLogprobs, TokenLogprob, ToolCallDelta
from server.engines.output import Tool, ToolUse
from server.errors import EngineDied
from tests.support.ranch import Ranch, error
from tests.support.stored import URL, Scribe, ask, prompt, settled, valid

MODELS = (
    {"id": "tiny", "template": "chatml"},
    {"id": "thinker", "template": "chatml", "reasoning_parser": "qwen3"},
    {
        "id": "forgetful",
        "template": "chatml",
        "context": {"length": 128, "overflow": "drop_oldest"},
    },
)
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
WHOLE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "background": False,
    "completed_at": 1,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "tiny",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
            ],
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "conversation": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 21,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 24,
    },
    "user": None,
    "metadata": {},
}


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    ranch = make_ranch(MODELS, database_url=database_url)
    ranch.format = Scribe()
    return ranch


async def test_a_whole_response(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=ask())
    assert settled(valid(answer)) == WHOLE
    assert answer.headers["content-type"] == "application/json"
    assert "x-corral-ignored-fields" not in answer.headers
    assert await prompt(ranch) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


async def test_what_was_said_is_shown(client: httpx.AsyncClient) -> None:
    said = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "max_tool_calls": 2,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "tool_choice": "none",
        "top_p": 0.25,
        "truncation": "auto",
        "user": "u",
    }
    body = valid(await client.post(URL, json=ask(tools=[WEATHER], **said)))
    assert {name: body[name] for name in said} == said
    assert body["tools"] == [
        {
            "type": "function",
            "name": "weather",
            "description": None,
            "parameters": {"type": "object"},
            "strict": None,
        }
    ]


async def test_an_answer_that_was_cut_is_incomplete(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "Hel", [1]), Delta(0, "", [2], finish_reason="length"))
    body = valid(await client.post(URL, json=ask(max_output_tokens=2)))
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["completed_at"] is None
    assert [(item["status"], item["content"][0]["text"]) for item in body["output"]] == [
        ("incomplete", "Hel")
    ]
    assert body["usage"]["output_tokens"] == 2
    assert ranch.request.sampling.max_tokens == 2


async def test_an_answer_without_text_is_a_message(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, "", [1], finish_reason="stop"))
    body = valid(await client.post(URL, json=ask()))
    assert [item["content"][0]["text"] for item in body["output"]] == [""]


async def test_every_kind_of_input_item(ranch: Ranch, client: httpx.AsyncClient) -> None:
    items = [
        {"role": "system", "content": "A"},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "B"}]},
        {"role": "user", "content": [{"type": "input_text", "text": x} for x in "CD"]},
        {"type": "reasoning", "id": "rs_x", "summary": [], "content": None},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "E"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "F"}],
        },
        {"role": "assistant", "content": "G"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_x",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "H", "annotations": []},
                {"type": "refusal", "refusal": "I"},
            ],
        },
        {"role": "user", "content": "J"},
    ]
    valid(await client.post(URL, json=ask(input=items, instructions="Z", tools=[WEATHER])))
    system, turns = (await prompt(ranch)).split("<|im_end|>\n", 1)
    assert system.startswith("<|im_start|>system\nZ\n\nA\n\nB\n\nYou can call these functions")
    assert turns == (
        "<|im_start|>user\nC\nD<|im_end|>\n"
        "<|im_start|>assistant\n<tool_call>\n"
        '{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n<tool_call>\n'
        '{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nE\n</tool_response>\n\n"
        "<tool_response>\nF\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nG\n\nH\nI<|im_end|>\n"
        "<|im_start|>user\nJ<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_sampling(ranch: Ranch, client: httpx.AsyncClient) -> None:
    said: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "repetition_penalty": 1.5,
        "seed": 3,
        "min_tokens": 2,
        "ignore_eos": True,
    }
    fields = ask(stop=["END"], stop_token_ids=[9], **said)
    answer = await client.post(URL, json=fields)
    valid(answer)
    assert "x-corral-ignored-fields" not in answer.headers
    sampling = ranch.request.sampling
    assert 9 in sampling.stop_token_ids
    assert {name: getattr(sampling, name) for name in said} == said
    assert "END" in sampling.stop


async def test_a_format_for_the_text(ranch: Ranch, client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    format_ = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    body = valid(await client.post(URL, json=ask(text={"format": format_})))
    assert body["text"] == {"format": format_}
    constraint = ranch.request.sampling.constraint
    assert constraint is not None
    assert (constraint.kind, constraint.value, constraint.param) == (
        "json",
        schema,
        "text.format.schema",
    )


async def test_calls_of_tools(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(
        Delta(0, "Let me see.", [1]),
        Delta(0, "", [2], tool_calls=(ToolCallDelta(0, "call_1", "weather", '{"a"'),)),
        Delta(0, "", [3], tool_calls=(ToolCallDelta(0, arguments=": 1}"),)),
        Delta(
            0,
            "",
            [4],
            "tool_calls",
            tool_calls=(ToolCallDelta(1, "call_2", "weather", "{}"),),
        ),
    )
    choice = {"type": "function", "name": "weather"}
    body = valid(await client.post(URL, json=ask(tools=[WEATHER], tool_choice=choice)))
    assert settled(body["output"]) == [
        WHOLE["output"][0]  # type: ignore[index]
        | {
            "content": [
                {"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}
            ]
        },
        {
            "id": "fc_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1",
            "name": "weather",
            "arguments": '{"a": 1}',
        },
        {
            "id": "fc_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_2",
            "name": "weather",
            "arguments": "{}",
        },
    ]
    assert body["tool_choice"] == choice
    tool = Tool(name="weather", parameters={"type": "object"})
    assert isinstance(ranch.format, Scribe)
    assert ranch.format.tools == ToolUse(tools=(tool,), choice="required", name="weather")


async def test_reasoning_is_an_item(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(
        Delta(0, "", [1], reasoning="Hm"),
        Delta(0, "", [2], reasoning="m."),
        Delta(0, "Yes", [3], "stop", reasoning_tokens=2),
    )
    body = valid(await client.post(URL, json=ask(model="thinker")))
    reasoning, message = settled(body["output"])
    assert reasoning == {
        "id": "rs_1",
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hmm."}],
    }
    assert message["content"][0]["text"] == "Yes"
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


async def test_logprobs(ranch: Ranch, client: httpx.AsyncClient) -> None:
    a, b = TokenLogprob(67, "a", -0.25), TokenLogprob(68, "b", -1.5)
    ranch.play(Delta(0, "a", [67], "stop", logprobs=(PositionLogprobs(a, (a, b)),)))
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    body = valid(await client.post(URL, json=ask(**fields)))
    assert body["output"][0]["content"][0]["logprobs"] == [
        {
            "token": "a",
            "logprob": -0.25,
            "bytes": [97],
            "top_logprobs": [{"token": "a", "logprob": -0.25, "bytes": [97]}],
        }
    ]
    assert ranch.request.sampling.logprobs == 1


async def test_truncation(ranch: Ranch, client: httpx.AsyncClient) -> None:
    old = {"role": "user", "content": "x" * 2500}
    items = [old, {"role": "assistant", "content": "y"}, {"role": "user", "content": "Hi"}]
    refused = await client.post(URL, json=ask(input=items))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input"
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "the length of the input." in refused.json()["error"]["message"]
    tool = {"type": "function", "name": "time"}
    refused = await client.post(URL, json=ask(input=items, tools=[tool]))
    assert "the length of the input or tools." in refused.json()["error"]["message"]
    answer = await client.post(URL, json=ask(input=items, truncation="auto"))
    assert valid(answer)["truncation"] == "auto"
    assert answer.headers["x-corral-dropped-messages"] == "2"
    # The entry says what happens where the caller does not.
    long = [old | {"content": "x" * 120}, *items[1:]]
    answer = await client.post(URL, json=ask(model="forgetful", input=long))
    assert valid(answer)["truncation"] == "auto"
    answer = await client.post(URL, json=ask(model="forgetful", input=long, truncation="disabled"))
    assert answer.json()["error"]["code"] == "context_length_exceeded"


async def test_ignored_fields_are_named(client: httpx.AsyncClient) -> None:
    fields = {
        "wild": 1,
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "web_search_call.results"],
        "service_tier": "auto",
        "prompt_cache_retention": "24h",
    }
    answer = await client.post(URL, json=ask(**fields))
    valid(answer)
    assert answer.headers["x-corral-ignored-fields"] == (
        "include.reasoning.encrypted_content, reasoning.summary, text.verbosity, wild, "
        "reasoning.effort"
    )


IMAGE = [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]
CALL_OUTPUT = [{"type": "function_call_output", "call_id": "c", "output": "x"}]
SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": 5}}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": None}, "input", "Missing required parameter: 'input'."),
        ({"input": []}, "input", "Missing required parameter"),
        ({"input": 5}, "input", "must be a string or an array"),
        ({"input": ["x"]}, "input.0", "An item must be an object"),
        ({"input": [{"role": "critic", "content": ""}]}, "input.0.role", "Unknown role 'critic'"),
        ({"input": [{"role": "user"}]}, "input.0.content", "a string or an array of parts"),
        ({"input": IMAGE}, "input.0.content.0.type", "'input_image' is not supported"),
        ({"input": [{"type": "web_search_call"}]}, "input.0.type", "not supported"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input.0.name", "a string"),
        ({"input": CALL_OUTPUT}, "input", "No tool call found"),
        ({"input": [{"id": "msg_0"}]}, "input.0.id", "Item with id 'msg_0' not found."),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "'web_search' is not supported"),
        ({"tools": [WEATHER | {"name": ""}]}, "tools.0.name", "1 to 128 letters"),
        ({"tools": [WEATHER | {"parameters": 5}]}, "tools.0.parameters", "'tools.0.parameters'"),
        ({"tool_choice": "required"}, "tool_choice", "only allowed when 'tools'"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice.name",
            "no function 'x'",
        ),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "x"}],
                },
            },
            "tool_choice.tools.0.name",
            "no function 'x'",
        ),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type", "'mcp' is not supported"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "must be one of"),
        ({"text": {"format": SCHEMA}}, "text.format.schema", "'text.format.schema' is no valid"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "Missing required parameter",
        ),
        ({"include": ["everything"]}, "include", "nothing that 'include' can ask for"),
        ({"top_logprobs": 1}, "top_logprobs", "needs 'include'"),
        ({"prompt": {"id": "x"}}, "prompt", "not supported by this server"),
        ({"metadata": {"a": 1}}, "metadata.a", "Invalid value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16"),
        ({"conversation": 5}, "conversation", "an id or an object"),
        ({"background": True, "store": False}, "background", "must be stored"),
        ({"stream_options": {}}, "stream_options", "only allowed when 'stream'"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
        ({"conversation": "c", "previous_response_id": "r"}, "conversation", "exclude each other"),
    ],
)
async def test_what_is_refused(
    fields: dict[str, Any], param: str, words: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=ask(**fields))
    assert answer.status_code == 400, answer.text
    told = answer.json()["error"]
    assert told["param"] == param
    assert words in told["message"]
    assert told["type"] == "invalid_request_error"
    assert ranch.requests == []


async def test_early_failures_have_a_status(ranch: Ranch, client: httpx.AsyncClient) -> None:
    missing = await client.post(URL, json=ask(model="none"))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    for stream in (False, True):
        ranch.play(EngineDied("The engine died."))
        answer = await client.post(URL, json=ask(stream=stream))
        assert answer.status_code == 503
        assert answer.json() == error("The engine died.", kind="server_error", code="engine_died")


async def test_a_body_must_be_json(client: httpx.AsyncClient) -> None:
    assert (await client.post(URL, content=b"x")).status_code == 415
