"""Wrong requests: the status, and OpenAI's envelope byte for byte in meaning."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from server.errors import CorralError
from tests.support.ranch import Ranch, chat, error, user

CHAT = "/v1/chat/completions"


async def test_unknown_model(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=chat("gpt-4"))
    assert answer.status_code == 404
    assert answer.json() == error(
        "The model 'gpt-4' does not exist or you do not have access to it. GET /v1/models lists "
        "the models of this server.",
        param="model",
        code="model_not_found",
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_too_long_a_conversation(stream: bool, client: httpx.AsyncClient) -> None:
    body = chat("strict", messages=[user("x" * 60)], stream=stream)
    answer = await client.post(CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json() == error(
        "This model's maximum context length is 64 tokens. However, your messages resulted in 79 "
        "tokens. Please reduce the length of the messages.",
        param="messages",
        code="context_length_exceeded",
    )


async def test_too_long_a_completion(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=chat("strict", max_tokens=44))
    assert answer.status_code == 400
    assert answer.json() == error(
        "This model's maximum context length is 64 tokens. However, you requested 65 tokens (21 "
        "in the messages, 44 in the completion). Please reduce the length of the messages or "
        "completion.",
        param="messages",
        code="context_length_exceeded",
    )
    assert (await client.post(CHAT, json=chat("strict", max_tokens=43))).status_code == 200
    assert ranch.request.sampling.max_tokens == 43


ONE_IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}]
# Field of the request -> its value, the param and code of the error, and a part of the message.
WRONG: list[tuple[dict[str, Any], str | None, str | None, str]] = [
    ({"temperature": "hot"}, "temperature", "invalid_type", "input should be a valid number."),
    ({"temperature": 3}, "temperature", "invalid_value", "less than or equal to 2."),
    ({"temperature": -0.1}, "temperature", "invalid_value", "greater than or equal to 0."),
    ({"temperature": True}, "temperature", "invalid_type", "valid number"),
    ({"top_p": 0}, "top_p", "invalid_value", "greater than 0"),
    ({"top_k": 1.5}, "top_k", "invalid_type", "valid integer"),
    ({"top_k": -2}, "top_k", "invalid_value", "-1"),
    ({"min_p": 2}, "min_p", "invalid_value", "less than or equal to 1"),
    ({"presence_penalty": 2.1}, "presence_penalty", "invalid_value", "2"),
    ({"frequency_penalty": []}, "frequency_penalty", "invalid_type", "number"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value", "or equal to 0.01"),
    ({"seed": 2**63}, "seed", "invalid_value", "less than 9223372036854775808"),
    ({"seed": "1"}, "seed", "invalid_type", "integer"),
    ({"seed": 10**30}, "seed", "invalid_type", "integer"),
    ({"n": 0}, "n", "invalid_value", "greater than or equal to 1"),
    ({"n": 129}, "n", "invalid_value", "less than or equal to 128"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value", "greater than or equal to 1"),
    ({"max_completion_tokens": "9"}, "max_completion_tokens", "invalid_type", "integer"),
    ({"max_tokens": 2**31}, "max_tokens", "invalid_value", "less than"),
    ({"min_tokens": -1}, "min_tokens", "invalid_value", "greater than or equal to 0"),
    ({"min_tokens": 3, "max_tokens": 2}, "min_tokens", None, "'min_tokens' is 3"),
    ({"ignore_eos": "no"}, "ignore_eos", "invalid_type", "boolean"),
    ({"stream": 1}, "stream", "invalid_type", "boolean"),
    ({"stream": True, "stream_options": 1}, "stream_options", "invalid_type", "must be an object."),
    (
        {"stream": True, "stream_options": {"include_usage": 1}},
        "stream_options.include_usage",
        "invalid_type",
        "boolean",
    ),
    ({"stream_options": {}}, "stream_options", None, "only allowed when 'stream' is true."),
    ({"logprobs": 1}, "logprobs", "invalid_type", "boolean"),
    ({"top_logprobs": 2}, "top_logprobs", None, "'top_logprobs' needs 'logprobs' to be true."),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value", "20"),
    ({"stop": 5}, "stop", "invalid_type", "must be a string or an array of strings."),
    ({"stop": ["a", None]}, "stop", "invalid_type", "must be a string or an array of strings."),
    ({"stop": [""]}, "stop", None, "A stop string must not be empty."),
    ({"stop": ["x"] * 65}, "stop", None, "Send at most 64 stop strings."),
    ({"stop": "x" * 257}, "stop", None, "A stop string may have at most 256 characters."),
    ({"stop_token_ids": "2"}, "stop_token_ids", "invalid_type", "must be an array."),
    ({"stop_token_ids": [1, -1]}, "stop_token_ids.1", "invalid_value", "0"),
    ({"stop_token_ids": [264]}, "stop_token_ids", None, "vocabulary of 264 tokens."),
    ({"logit_bias": {"264": 1}}, "logit_bias", None, "Token id 264 is outside"),
    ({"logit_bias": {"1_0": 1}}, "logit_bias", None, "must be token ids"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", None, "must be token ids"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", None, "Token id -1 is outside"),
    ({"logit_bias": {"hello": 1}}, "logit_bias", None, "must be token ids"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", "invalid_value", "100"),
    ({"logit_bias": {"5": "x"}}, "logit_bias.5", "invalid_type", "number"),
    ({"logit_bias": [1]}, "logit_bias", "invalid_type", "must be an object."),
    ({"model": 1}, "model", "invalid_type", "string"),
    ({"model": ""}, "model", "invalid_value", "at least 1 character"),
    ({"messages": []}, "messages", None, "must hold at least one message"),
    ({"messages": "Hi"}, "messages", "invalid_type", "must be an array."),
    ({"messages": ["Hi"]}, "messages.0", "invalid_type", "must be an object."),
    ({"messages": [{"content": "x"}]}, "messages.0.role", None, "Unknown role None"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", None, "needs 'content'"),
    (
        {"messages": [user(), {"role": "user", "content": ONE_IMAGE}]},
        "messages.1.content.0",
        None,
        "Content part of type 'image_url' is not supported: the models here take text only.",
    ),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter", "Use 'tools'."),
    (
        {"modalities": ["text", "audio"]},
        "modalities",
        "unsupported_parameter",
        "'modalities' is not supported by this server. The models here write text only.",
    ),
    ({"chat_template_kwargs": []}, "chat_template_kwargs", "invalid_type", "must be an object."),
    (
        {"chat_template_kwargs": {"messages": []}},
        "chat_template_kwargs.messages",
        None,
        "set by the server",
    ),
    (
        {"continue_final_message": True, "add_generation_prompt": True},
        "continue_final_message",
        None,
        "exclude each other",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code", "text"), WRONG)
async def test_wrong_values(
    fields: dict[str, Any],
    param: str | None,
    code: str | None,
    text: str,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post(CHAT, json=chat(**fields))
    found = answer.json()["error"]
    assert (answer.status_code, found["param"], found["code"]) == (400, param, code)
    assert found["type"] == "invalid_request_error"
    assert text in found["message"]
    assert ranch.requests == []


@pytest.mark.parametrize("field", ["model", "messages"])
async def test_missing_fields(field: str, client: httpx.AsyncClient) -> None:
    body = chat()
    del body[field]
    answer = await client.post(CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json() == error(
        f"Missing required parameter: '{field}'.", param=field, code="missing_required_parameter"
    )


async def test_unknown_route(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/{engines}")
    assert answer.status_code == 404
    assert answer.json() == error(
        "Unknown request URL: GET /v1/{engines}. GET /v1/models and POST /v1/chat/completions are "
        "where most clients begin; the README lists every endpoint.",
        code="unknown_url",
    )


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_wrong_method(method: str, client: httpx.AsyncClient) -> None:
    answer = await client.request(method, CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == error(
        f"Not allowed to {method} on {CHAT}.", code="method_not_supported"
    )


async def test_head(client: httpx.AsyncClient) -> None:
    assert (await client.head("/health")).status_code == 200
    assert (await client.head(CHAT)).status_code == 405


async def test_an_unexpected_error_tells_nothing(
    ranch: Ranch, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(ranch.herd, "resolve", fail)
    headers = {"origin": "http://x", "x-request-id": "abc-1"}
    answer = await client.post(CHAT, json=chat(), headers=headers)
    assert answer.status_code == 500
    assert answer.json() == error("The server had an internal error.", kind="server_error")
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_an_error_that_quotes_no_unicode(
    ranch: Ranch, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise CorralError("half a pair: \ud800")

    monkeypatch.setattr(ranch.herd, "resolve", fail)
    answer = await client.post(CHAT, json=chat())
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "half a pair: \ud800"
