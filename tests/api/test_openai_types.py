"""Our answers as OpenAI's own package and description of its API see them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, TypeAdapter

from server.engines.base import Delta, PositionLogprobs, TokenLogprob
from tests.support.openai_spec import VARIABLE, OpenAiSpec
from tests.support.ranch import Ranch, chat, events

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SPEC = OpenAiSpec.from_environment()
needs_spec = pytest.mark.skipif(SPEC is None, reason=f"{VARIABLE} does not name OpenAI's file")
TOKEN = TokenLogprob(67, "a", -0.5)
POSITION = PositionLogprobs(TOKEN, (TOKEN,))
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
SCORED = {"logprobs": True, "top_logprobs": 1}
REQUESTS = [
    pytest.param(CHAT, chat(), id="chat"),
    pytest.param(CHAT, chat(n=2, **SCORED), id="chat with logprobs"),
    pytest.param(CHAT, chat(**USAGE), id="chat stream"),
    pytest.param(CHAT, chat(n=2, **USAGE, **SCORED), id="chat stream with logprobs"),
    pytest.param(TEXT, {"model": "tiny", "prompt": ["x", "y"], "logprobs": 1}, id="text"),
    pytest.param(TEXT, {"model": "tiny", "prompt": "x", "logprobs": 1, **USAGE}, id="text stream"),
]
TYPES: dict[tuple[str, bool], type[BaseModel]] = {
    (CHAT, False): ChatCompletion,
    (CHAT, True): ChatCompletionChunk,
    (TEXT, False): Completion,
    (TEXT, True): Completion,
}
COMPONENTS = {
    (CHAT, False): "CreateChatCompletionResponse",
    (CHAT, True): "CreateChatCompletionStreamResponse",
    (TEXT, False): "CreateCompletionResponse",
    (TEXT, True): "CreateCompletionResponse",
}


@pytest.fixture(autouse=True)
def script(ranch: Ranch) -> None:
    ranch.script = lambda request: [
        step
        for index in range(request.sampling.n)
        for step in (
            Delta(index, "a", [67], logprobs=(POSITION,)),
            Delta(index, "b", [68], "stop", logprobs=(POSITION,), cached_tokens=2),
        )
    ]


async def objects(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200
    if "stream" not in body:
        return [answer.json()]
    chunks = events(answer.content)[:-1]
    return [_finished(chunk) for chunk in chunks] if path == TEXT else chunks


def _finished(chunk: dict[str, Any]) -> dict[str, Any]:
    """OpenAI describes no stream of the legacy endpoint; its chunks have nulls in these places."""
    choices = [
        choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]
    ]
    usage = {} if chunk["usage"] is None else {"usage": chunk["usage"]}
    return {name: chunk[name] for name in chunk if name != "usage"} | {"choices": choices} | usage


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_the_package(path: str, body: dict[str, Any], client: httpx.AsyncClient) -> None:
    adapter = TypeAdapter(TYPES[path, "stream" in body])
    for one in await objects(client, path, body):
        adapter.validate_python(one, strict=True)


@needs_spec
@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_the_description(path: str, body: dict[str, Any], client: httpx.AsyncClient) -> None:
    assert SPEC is not None
    component = COMPONENTS[path, "stream" in body]
    for one in await objects(client, path, body):
        assert SPEC.problems(component, one) == []


async def test_models_as_the_package_sees_them(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [Model.model_validate(one).id for one in listed["data"]] == [
        "tiny",
        "talker",
        "strict",
        "forgetful",
    ]


@needs_spec
async def test_models_as_described(client: httpx.AsyncClient) -> None:
    assert SPEC is not None
    assert SPEC.problems("ListModelsResponse", (await client.get("/v1/models")).json()) == []
    assert SPEC.problems("Model", (await client.get("/v1/models/tiny")).json()) == []


@needs_spec
@pytest.mark.parametrize(
    "body", [chat("nobody"), chat(temperature=9), chat(stop=[1]), {}, chat(tools=[])]
)
async def test_errors_as_described(body: dict[str, Any], client: httpx.AsyncClient) -> None:
    assert SPEC is not None
    assert SPEC.problems("ErrorResponse", (await client.post(CHAT, json=body)).json()) == []
