"""Any OpenAI endpoint: what is asked of it, and what its failures are called."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from evaluation.endpoint import Endpoint, Sampling
from evaluation.errors import (
    CannotScore,
    EndpointError,
    KeyRefused,
    ModelMissing,
    RequestRefused,
)
from server.engines.base import Delta
from tests.support.ranch import Ranch, listening, user
from tests.unit.evaluation.conftest import MODELS, likes

Reply = Callable[[str, dict[str, Any]], tuple[int, Any]]


@asynccontextmanager
async def a_server(reply: Reply) -> AsyncGenerator[Endpoint, None]:
    """An endpoint that answers as the test says: (path, body) to (status, JSON)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = [line for line in head.lower().split("\r\n") if line.startswith("content-length")]
        body = await reader.readexactly(int(length[0].split(":")[1])) if length else b"{}"
        status, said = reply(head.split()[1], json.loads(body))
        text = said if isinstance(said, str) else json.dumps(said)
        writer.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(text.encode())}\r\nconnection: close\r\n\r\n{text}".encode()
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "sk-x", retries=0)
        yield endpoint
        await endpoint.close()


async def test_models_and_version(endpoint: Endpoint) -> None:
    assert await endpoint.models() == ["tiny", "other", "plain", "alpaca", "short"]
    assert await endpoint.version() is not None


async def test_an_answer(endpoint: Endpoint, ranch: Ranch) -> None:
    answer = await endpoint.chat("tiny", [user("Hi")], Sampling(0.5, 7, 33))
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("Hello", "stop", 3)
    sampling = ranch.request.sampling
    assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.5, 7, 33)
    assert answer.seconds > 0


async def test_a_continuation(endpoint: Endpoint, ranch: Ranch) -> None:
    answer = await endpoint.complete("plain", "ab", Sampling())
    assert answer.text == "Hello"
    assert len(ranch.request.prompt_token_ids) == 2


async def test_a_choice_is_held_to_its_schema(endpoint: Endpoint, ranch: Ranch) -> None:
    await endpoint.choose("tiny", [user()], {"type": "object"})
    constraint = ranch.request.sampling.constraint
    assert constraint is not None
    assert (constraint.kind, constraint.value) == ("json", {"type": "object"})


async def test_token_ids_of_conversations(endpoint: Endpoint) -> None:
    asked = await endpoint.conversation_ids("tiny", [user("ab")])
    said = [user("ab"), {"role": "assistant", "content": "c"}]
    open_answer = await endpoint.conversation_ids("tiny", said, open_answer=True)
    ended = await endpoint.conversation_ids("tiny", said)
    assert open_answer[: len(asked)] == asked
    assert len(open_answer) == len(asked) + 1
    # <|im_end|>, and the line break behind it.
    assert ended == [*open_answer, 2, ended[-1]]


async def test_log_probabilities(endpoint: Endpoint, ranch: Ranch) -> None:
    ranch.script = likes(lambda token: -token / 100)
    assert await endpoint.logprobs("tiny", [67, 68, 69]) == [-0.68, -0.69]
    request = ranch.request
    assert list(request.prompt_token_ids) == [67, 68, 69]
    assert (request.sampling.prompt_logprobs, request.sampling.max_tokens) == (0, 1)


async def test_log_probabilities_by_echo() -> None:
    asked: list[dict[str, Any]] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        if "prompt_logprobs" in body:
            return 400, {"error": {"message": "unknown field", "code": None}}
        scores = {
            "tokens": ["a", "b", "c"],
            "token_logprobs": [None, -1.0, -2.0],
            "text_offset": [0, 1, 2],
        }
        return 200, {"choices": [{"text": "abc", "logprobs": scores}]}

    def reply_without(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, said = reply(_, body)
        return (200, {"choices": [{"text": "x"}]}) if status == 400 else (status, said)

    async with a_server(reply_without) as endpoint:
        assert await endpoint.logprobs("m", [1, 2]) == [-1.0]
        assert await endpoint.logprobs("m", [1, 2]) == [-1.0]
        assert await endpoint.text_logprobs("m", "ab") == [(1, -1.0)]
    # What does not work is tried once.
    assert [("prompt_logprobs" in body, body.get("echo")) for body in asked] == [
        (True, None),
        (False, True),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize("refusal", [400, 404, 422])
async def test_an_endpoint_without_log_probabilities(refusal: int) -> None:
    def reply(path: str, _: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/completions":
            return refusal, {"error": {"message": "no such thing"}}
        return 200, {}

    async with a_server(reply) as endpoint:
        with pytest.raises(CannotScore):
            await endpoint.logprobs("m", [1, 2])
        with pytest.raises(CannotScore):
            await endpoint.text_logprobs("m", "ab")


async def test_tokenize_below_v1_or_nowhere() -> None:
    def below(path: str, _: dict[str, Any]) -> tuple[int, Any]:
        return (200, {"tokens": [1]}) if path == "/v1/tokenize" else (404, {"detail": "Not Found"})

    async with a_server(below) as endpoint:
        assert await endpoint.conversation_ids("m", [user()]) == [1]
    async with a_server(lambda *_: (404, {"detail": "Not Found"})) as endpoint:
        with pytest.raises(CannotScore, match="no /tokenize"):
            await endpoint.conversation_ids("m", [user()])

    # llama.cpp's takes texts alone, and answers a conversation with an empty list.
    async with a_server(lambda *_: (200, {"tokens": []})) as endpoint:
        with pytest.raises(CannotScore, match="no /tokenize"):
            await endpoint.conversation_ids("m", [user()])


@pytest.mark.parametrize(
    ("status", "said", "error", "words"),
    [
        (
            401,
            {"error": {"message": "no key"}},
            KeyRefused,
            r"refuses the key .no key.*OPENAI_API_KEY",
        ),
        (403, {"error": "Unauthorized"}, KeyRefused, "refuses the key"),
        (404, {"error": {"code": "model_not_found", "message": "x"}}, ModelMissing, "x"),
        (404, {"error": {"message": "The model `m` does not exist."}}, ModelMissing, "not exist"),
        (404, {"detail": "Not Found"}, EndpointError, "/v1: Not Found|404"),
        (400, {"error": {"message": "too long"}}, RequestRefused, "^too long$"),
        (422, {"error": {"message": "bad"}}, RequestRefused, "bad"),
        (429, {"error": {"message": "slow down"}}, EndpointError, "answers 429: slow down"),
        (500, "<html>", EndpointError, "answers 500"),
        (503, {"error": {"message": "loading"}}, EndpointError, "answers 503: loading"),
        (200, {"choices": []}, EndpointError, "no choice"),
        (200, [1], EndpointError, "no object"),
        (200, "not json", EndpointError, "does not answer in JSON"),
    ],
)
async def test_failures(status: int, said: Any, error: type[Exception], words: str) -> None:
    async with a_server(lambda *_: (status, said)) as endpoint:
        with pytest.raises(error, match=words):
            await endpoint.chat("m", [user()], Sampling())


async def test_nobody_there() -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "none", retries=0)
    with pytest.raises(EndpointError, match=r"nobody answers at http://127.0.0.1:9/v1"):
        await endpoint.models()
    await endpoint.close()


async def test_something_else_there() -> None:
    async with a_server(lambda *_: (200, {"hello": "world"})) as endpoint:
        with pytest.raises(EndpointError, match="no OpenAI endpoint"):
            await endpoint.models()
    async with a_server(lambda *_: (404, {"detail": "Not Found"})) as endpoint:
        with pytest.raises(EndpointError, match="end in /v1"):
            await endpoint.models()
        assert await endpoint.version() is None


async def test_the_key_is_sent(model_directory: Path, tmp_path: Path) -> None:
    ranch = Ranch(model_directory, tmp_path / "c", MODELS, keys=["sk-secret"])
    async with listening(ranch) as url:
        right = Endpoint(f"{url}/v1", "sk-secret", retries=0)
        assert len(await right.models()) == 5
        wrong = Endpoint(f"{url}/v1", "sk-other", retries=0)
        with pytest.raises(KeyRefused):
            await wrong.models()
        await right.close()
        await wrong.close()


async def test_no_more_requests_at_once_than_allowed(ranch: Ranch, url: str) -> None:
    running = most = 0

    def script(_: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield 0.05
        running -= 1
        yield Delta(0, "x", [1], finish_reason="stop")

    ranch.script = script
    endpoint = Endpoint(url, "none", concurrency=3, retries=0)
    await asyncio.gather(*(endpoint.chat("tiny", [user()], Sampling()) for _ in range(9)))
    await endpoint.close()
    assert most == 3


async def test_a_busy_server_is_asked_again() -> None:
    tries = 0

    def reply(*_: Any) -> tuple[int, Any]:
        nonlocal tries
        tries += 1
        if tries == 1:
            return 503, {"error": {"message": "loading"}}
        return 200, {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}

    async with a_server(reply) as quick:
        endpoint = Endpoint(quick.base_url, "none", retries=1)
        assert (await endpoint.chat("m", [user()], Sampling())).text == "ok"
        await endpoint.close()
    assert tries == 2
