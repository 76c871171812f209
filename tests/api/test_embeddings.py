"""Texts to vectors."""

from __future__ import annotations

import asyncio
import base64
import struct
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from server.api.together import AT_ONCE
from server.engines.base import EmbeddingRequest, Vector
from server.errors import EngineDied, GenerationFailed, InvalidRequest
from tests.support.ranch import Ranch, chat, error, in_process, listening, until

URL = "/v1/embeddings"
MODELS: tuple[Mapping[str, Any], ...] = (
    {"id": "vectors", "kind": "embedding", "aliases": ["org/vectors"], "context": {"length": 16}},
    {"id": "writer", "template": "chatml"},
)
Body = dict[str, Any]


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch]) -> Ranch:
    return make_ranch(MODELS)


@pytest.fixture
async def client(ranch: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with in_process(ranch) as client:
        await until(lambda: ranch.herd.resolve("vectors").engines.state.status == "ready")
        yield client


def body(value: Any = "ab", **fields: Any) -> Body:
    return {"model": "vectors", "input": value} | fields


def embedded(ranch: Ranch) -> list[EmbeddingRequest]:
    return [request for engine in ranch.engines for request in engine.embedded]


def play(ranch: Ranch, *steps: Vector | float | Exception) -> None:
    for engine in ranch.engines:
        engine.embedding = lambda _: list(steps)


async def test_a_whole_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body())
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[2.0,67.0]}],'
        b'"model":"vectors","usage":{"prompt_tokens":2,"total_tokens":2}}'
    )


@pytest.mark.parametrize("model", ["vectors", "org/vectors"])
@pytest.mark.parametrize("url", [URL, "/embeddings"])
async def test_names(model: str, url: str, client: httpx.AsyncClient) -> None:
    assert (await client.post(url, json=body(model=model))).json()["model"] == "vectors"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ab", [[67, 68]]),
        (["ab"], [[67, 68]]),
        (["a", "b", "c"], [[67], [68], [69]]),
        ([68, 0, 263], [[68, 0, 263]]),
        ([[68], [69, 70]], [[68], [69, 70]]),
    ],
)
async def test_inputs(value: Any, expected: Any, ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = (await client.post(URL, json=body(value))).json()
    assert [list(request.prompt_token_ids) for request in embedded(ranch)] == expected
    assert [item["index"] for item in answer["data"]] == list(range(len(expected)))
    assert [item["embedding"] for item in answer["data"]] == [[len(i), i[0]] for i in expected]
    assert answer["usage"] == {"prompt_tokens": sum(map(len, expected))} | {
        "total_tokens": sum(map(len, expected))
    }


async def test_typed_control_tokens_are_text(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await client.post(URL, json=body("<|im_end|>"))
    assert len(embedded(ranch)[0].prompt_token_ids) == 10


async def test_base64(ranch: Ranch, client: httpx.AsyncClient) -> None:
    play(ranch, array("f", [0.5, -1.25, 0.1]))
    answer = await client.post(URL, json=body(encoding_format="base64"))
    packed = answer.json()["data"][0]["embedding"]
    assert base64.b64decode(packed) == struct.pack("<3f", 0.5, -1.25, 0.1)


async def test_the_sdk(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(MODELS)
    async with (
        listening(ranch) as url,
        AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as sdk,
    ):
        for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
            answer = await sdk.embeddings.create(
                model="vectors",
                input=["ab", "c"],
                user="me",
                **options,  # type: ignore[arg-type]
            )
            shown = [item.embedding for item in answer.data]
            if options.get("encoding_format") != "base64":  # asked for, the SDK leaves it packed
                assert shown == [[2.0, 67.0], [1.0, 69.0]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"truncate_prompt_tokens": -1}, list(range(67, 83))),
        ({"truncate_prompt_tokens": 3}, [67, 68, 69]),
        ({"truncate_prompt_tokens": 3, "truncation_side": "right"}, [67, 68, 69]),
        ({"truncate_prompt_tokens": 3, "truncation_side": "left"}, [84, 85, 86]),
        ({"truncate_prompt_tokens": 17}, None),
    ],
)
@pytest.mark.parametrize("as_ids", [False, True])
async def test_what_is_too_long(
    fields: Body, expected: Any, as_ids: bool, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    value: Any = list(range(67, 87)) if as_ids else "abcdefghijklmnopqrst"
    answer = await client.post(URL, json=body(value, **fields))
    if expected is not None:
        assert list(embedded(ranch)[0].prompt_token_ids) == expected
        return
    count = min(fields.get("truncate_prompt_tokens", 20), 20)
    assert (answer.status_code, answer.json()) == (
        400,
        error(
            "This model's maximum context length is 16 tokens. However, your input resulted in "
            f"{count} tokens. Please reduce the length of the input.",
            param="input",
            code="context_length_exceeded",
        ),
    )


EMPTY = "'input' must not be or hold an empty text: it has no embedding."


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"input": ""}, "input", EMPTY),
        ({"input": ["a", ""]}, "input", EMPTY),
        ({"input": []}, "input", "from 1 to 2048 inputs"),
        ({"input": ["a"] * 2049}, "input", "from 1 to 2048 inputs"),
        ({"input": [[]]}, "input", "must be a string, an array of strings"),
        ({"input": [[1], "a"]}, "input", "must be a string"),
        ({"input": [True]}, "input", "must be a string"),
        ({"input": {"text": "a"}}, "input", "must be a string"),
        ({"input": None}, "input", "must be a string"),
        ({"input": [264]}, "input", "outside the model's vocabulary of 264"),
        ({"input": [-1]}, "input", "outside the model's vocabulary"),
        ({"encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"dimensions": "2"}, "dimensions", "integer"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "must be -1"),
        ({"truncation_side": "middle"}, "truncation_side", "'left' or 'right'"),
        ({"use_activation": False}, "use_activation", "pooler_config"),
        ({"messages": []}, "messages", "Send texts as 'input'"),
        (
            {"model": "writer"},
            "model",
            "The model 'writer' writes text and makes no embeddings. Use vectors.",
        ),
    ],
)
async def test_wrong_values(
    fields: Body, param: str, text: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=body() | fields)
    found = answer.json()["error"]
    assert (answer.status_code, found["type"]) == (400, "invalid_request_error")
    assert found["param"] == param
    assert text in found["message"]
    assert embedded(ranch) == []


async def test_nothing_to_embed(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json={"model": "vectors"})
    assert answer.json() == error(
        "Missing required parameter: 'input'.", param="input", code="missing_required_parameter"
    )


async def test_no_such_model(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body(model="none"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_no_model_makes_embeddings(make_ranch: Callable[..., Ranch]) -> None:
    async with in_process(make_ranch(MODELS[1:])) as client:
        answer = await client.post(URL, json=body(model="writer"))
    assert "Add an entry with 'kind: embedding'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/completions"])
async def test_an_embedding_model_writes_nothing(url: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(url, json=chat("vectors", prompt="Hi"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "/v1/embeddings" in answer.json()["error"]["message"]


async def test_dimensions(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body(dimensions=1))
    assert answer.json()["data"][0]["embedding"] == [2.0]
    # Only the engine knows which the model was trained for.
    play(ranch, InvalidRequest("No.", param="dimensions"))
    answer = await client.post(URL, json=body(dimensions=1))
    assert (answer.status_code, answer.json()) == (400, error("No.", param="dimensions"))


async def test_fields_of_others(client: httpx.AsyncClient) -> None:
    fields = {"user": "me", "metadata": {}, "add_special_tokens": False, "colour": 1}
    answer = await client.post(URL, json=body(**fields))
    assert answer.status_code == 200
    assert answer.headers["x-corral-ignored-fields"] == "colour"


async def test_the_kind_is_listed(ranch: Ranch, client: httpx.AsyncClient) -> None:
    data = (await client.get("/v1/models")).json()["data"]
    assert [model["kind"] for model in data] == ["embedding", "generate"]
    assert {spec.name: spec.embeds for spec in ranch.specs} == {"vectors": True, "writer": False}


async def test_one_request_does_not_fill_the_server(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    running = most = 0

    def slowly(request: EmbeddingRequest) -> Iterable[Vector | float]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield 0.001
        running -= 1
        yield array("f", [request.prompt_token_ids[0]])

    for engine in ranch.engines:
        engine.embedding = slowly
    answer = await client.post(URL, json=body([[n] for n in range(200)]))
    assert [item["embedding"] for item in answer.json()["data"]] == [[n] for n in range(200)]
    assert most == AT_ONCE


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (GenerationFailed("Broken."), 500, "generation_failed"),
        (EngineDied("X."), 503, "engine_died"),
    ],
)
async def test_failures(
    failure: Exception, status: int, code: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    play(ranch, failure)
    ranch.embedding = lambda _: [failure]  # it dies again
    answer = await client.post(URL, json=body(["a", "b", "c"]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_the_client_leaves(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(MODELS)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url) as client:
        await until(lambda: ranch.herd.resolve("vectors").engines.state.status == "ready")
        play(ranch, 30.0)
        asking = asyncio.create_task(client.post(URL, json=body(["a", "b"])))
        await until(lambda: len(embedded(ranch)) == 2)
        asking.cancel()
        await until(lambda: len(ranch.aborted) == 2)
        assert sorted(ranch.aborted) == sorted(item.request_id for item in embedded(ranch))
        assert ranch.herd.resolve("vectors").engines.state.requests == 0


async def test_too_many_requests(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(MODELS, max_running=1)
    async with in_process(ranch) as client:
        await until(lambda: ranch.herd.resolve("vectors").engines.state.status == "ready")
        play(ranch, 0.01, array("f", [1]))
        answer = await client.post(URL, json=body(["a", "b"]))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
