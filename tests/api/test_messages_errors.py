"""Wrong requests to the Messages API: the status, and Anthropic's envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.messages import CLOCK, COUNT, URL, WEATHER, ask, blocks, refusal, text
from tests.support.ranch import Ranch, in_process, user

TEXT_ONLY = "are not supported: the models here take text only."
WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}
# Fields of the request -> the message.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "Invalid value for 'max_tokens': input should be a valid integer."),
    (
        {"max_tokens": 0},
        "Invalid value for 'max_tokens': input should be greater than or equal to 1.",
    ),
    (
        {"temperature": 1.5},
        "Invalid value for 'temperature': input should be less than or equal to 1.",
    ),
    ({"top_k": -1}, "Invalid value for 'top_k': input should be greater than or equal to 0."),
    ({"stream": 1}, "Invalid value for 'stream': input should be a valid boolean."),
    ({"messages": "Hi"}, "Invalid value for 'messages': must be an array."),
    ({"messages": ["Hi"]}, "Invalid value for 'messages.0': must be an object."),
    ({"messages": []}, "'messages' must hold at least one message."),
    ({"stop_sequences": [""]}, "A stop string must not be empty."),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages.0.role: A message's role must be one of: user, assistant, system.",
    ),
    (
        {"messages": [{"role": "user"}]},
        "'messages.0.content' must be a string or an array of content blocks, at least one.",
    ),
    (
        {"messages": [user(), {"role": "user", "content": []}]},
        "'messages.1.content' must be a string or an array of content blocks, at least one.",
    ),
    (
        {"messages": [{"role": "user", "content": ["x"]}]},
        "messages.0.content.0: A content block must be an object with a 'type'.",
    ),
    (
        {"messages": [blocks(text("a"), {"type": "image", "source": {}})]},
        f"messages.0.content.1: Content blocks of type 'image' {TEXT_ONLY}",
    ),
    (
        {"messages": [blocks({"type": "document", "source": {}})]},
        f"messages.0.content.0: Content blocks of type 'document' {TEXT_ONLY}",
    ),
    (
        {
            "messages": [
                blocks({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image"}]})
            ]
        },
        f"messages.0.content.0.content.0: Content blocks of type 'image' {TEXT_ONLY}",
    ),
    (
        {"messages": [blocks({"type": "tool_result", "content": "x"})]},
        "messages.0.content.0.tool_use_id: A tool_result block needs a string 'tool_use_id'.",
    ),
    (
        {"messages": [blocks({"type": "tool_use"})]},
        "messages.0.content.0: A content block of type 'tool_use' has no place here.",
    ),
    (
        {"messages": [blocks({"type": "text"})]},
        "messages.0.content.0.text: A text block needs a string 'text'.",
    ),
    (
        {"messages": [blocks({"type": "tool_use", "id": "x", "name": "y"}, role="assistant")]},
        "messages.0.content.0.input: A tool_use block needs an object 'input'.",
    ),
    (
        {
            "messages": [
                user(),
                blocks({"type": "tool_use", "id": "x", "name": "y", "input": {}}, role="assistant"),
            ]
        },
        "messages.1: The last message calls tools: send their results after it, in a user message.",
    ),
    ({"system": 5}, "'system' must be a string or an array of content blocks, at least one."),
    (
        {"system": [{"type": "image"}]},
        f"system.0: Content blocks of type 'image' {TEXT_ONLY}",
    ),
    (
        {"tools": [WEB_SEARCH]},
        "tools.0.type: A tool of type 'web_search_20250305' is not supported: this server brings "
        "no tools of its own. Describe yours with 'name', 'description' and 'input_schema'.",
    ),
    (
        {"tools": [{"name": "a b", "input_schema": {"type": "object"}}]},
        "tools.0.name: A tool's name must be 1 to 128 letters, digits, underscores, dots or "
        "dashes.",
    ),
    (
        {"tools": [{"name": "a"}]},
        "tools.0.input_schema: A tool's 'input_schema' must be a JSON schema of type 'object'.",
    ),
    (
        {"tools": [{"name": "a", "input_schema": {"type": "object", "required": 5}}]},
        "'tools.0.input_schema' is no valid JSON schema at 'required': Expected `array`, got "
        "`int`.",
    ),
    (
        {"tools": [CLOCK | {"description": 5}]},
        "tools.0.description: A tool's 'description' must be a string.",
    ),
    (
        {"tools": [CLOCK | {"strict": 5}]},
        "tools.0.strict: A tool's 'strict' must be true or false.",
    ),
    ({"tools": [CLOCK, WEATHER, CLOCK]}, "tools.2.name: Two tools have the name 'clock'."),
    ({"tools": [CLOCK] * 129}, "Send at most 128 tools."),
    ({"tool_choice": {"type": "any"}}, "'tool_choice' of type 'any' needs 'tools' to choose from."),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "required"}},
        "'tool_choice.type' must be one of: auto, any, tool, none.",
    ),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "weather"}},
        "tool_choice.name: There is no tool 'weather' among 'tools'.",
    ),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "any", "disable_parallel_tool_use": 1}},
        "'tool_choice.disable_parallel_tool_use' must be true or false.",
    ),
    (
        {"thinking": {"type": "always"}},
        "'thinking.type' must be one of: adaptive, disabled, enabled.",
    ),
    (
        {"output_config": {"effort": "none"}},
        "'output_config.effort' must be one of: low, medium, high, xhigh, max.",
    ),
    (
        {"output_config": {"format": {"type": "json"}}},
        "'output_config.format' must be an object of type 'json_schema'.",
    ),
    (
        {"mcp_servers": [{"url": "x"}]},
        "'mcp_servers' is not supported by this server. Let the client call MCP tools and offer "
        "them as 'tools'.",
    ),
    (
        {"max_tokens": 5000},
        "This model's maximum context length is 2048 tokens. However, you requested 5021 tokens "
        "(21 in the messages, 5000 in the completion). Please reduce the length of the messages "
        "or completion.",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "message"), WRONG)
async def test_wrong_values(
    fields: dict[str, Any], message: str, stream: bool, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=ask(stream=stream) | fields)
    assert (answer.status_code, answer.json()) == (
        400,
        refusal("invalid_request_error", message, answer.headers["request-id"]),
    )
    assert ranch.requests == []


@pytest.mark.parametrize("path", [URL, COUNT, "/messages", "/messages/count_tokens"])
async def test_unknown_model(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(path, json=ask("claude"))
    message = (
        "The model 'claude' does not exist or you do not have access to it. GET /v1/models lists "
        "the models of this server."
    )
    assert answer.status_code == 404
    assert answer.json() == refusal("not_found_error", message, answer.headers["request-id"])


# What is sent -> the status, the error's type and a part of its message.
OTHERS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"content": b"{"}, 400, "invalid_request_error", "The request body is not valid JSON"),
    ({"content": b"[]"}, 400, "invalid_request_error", "The request body must be an object."),
    ({"content": b"{}"}, 400, "invalid_request_error", "Missing required parameter: 'model'."),
    (
        {"content": b" " * 5000},
        413,
        "request_too_large",
        "The request body is larger than 2048 bytes",
    ),
    (
        {"content": b"{}", "headers": {"content-type": "text/plain"}},
        415,
        "invalid_request_error",
        "Unsupported content type 'text/plain'.",
    ),
    ({"method": "GET"}, 405, "invalid_request_error", "Not allowed to GET on /v1/messages"),
]


@pytest.mark.parametrize(("sent", "status", "kind", "message"), OTHERS)
@pytest.mark.parametrize("path", [URL, COUNT])
async def test_other_errors(
    sent: dict[str, Any],
    status: int,
    kind: str,
    message: str,
    path: str,
    make_ranch: Callable[..., Ranch],
) -> None:
    headers = {"content-type": "application/json"} | sent.get("headers", {})
    async with in_process(make_ranch(max_body_bytes=2048)) as client:
        answer = await client.request(
            sent.get("method", "POST"), path, content=sent.get("content"), headers=headers
        )
    body = answer.json()
    told = body["error"]["message"]
    assert message in told
    assert (answer.status_code, body) == (
        status,
        refusal(kind, told, answer.headers["request-id"]),
    )


async def test_without_max_tokens(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json={"model": "tiny", "messages": [user()]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Missing required parameter: 'max_tokens'."


async def test_an_unknown_path(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/messages/batches", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    # Not of this API.
    answer = await client.post("/v1/messages2", json={})
    assert answer.json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-api-key": "wrong"}, "Incorrect API key provided: ***."),
        ({}, "You didn't provide an API key."),
    ],
)
async def test_keys(
    headers: dict[str, str], message: str, make_ranch: Callable[..., Ranch]
) -> None:
    async with in_process(make_ranch(keys=["right"])) as client:
        answer = await client.post(URL, json=ask(), headers=headers)
        assert answer.status_code == 401
        told = answer.json()["error"]["message"]
        assert told.startswith(message)
        assert answer.json() == refusal("authentication_error", told, answer.headers["request-id"])
        answer = await client.post(URL, json=ask(), headers={"x-api-key": "right"})
        assert answer.status_code == 200


async def test_too_many_requests(make_ranch: Callable[..., Ranch]) -> None:
    async with in_process(make_ranch(max_running=0)) as client:
        answer = await client.post(URL, json=ask())
    message = "The server is handling 0 requests, which is its limit. Retry after a moment."
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json() == refusal("rate_limit_error", message, answer.headers["request-id"])
