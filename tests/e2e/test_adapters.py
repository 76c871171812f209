"""Adapters of the real model on the real engine, through the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from openai import APIStatusError, AsyncOpenAI, OpenAI

from tests.e2e.harness import INSTRUCT, ROOT, Server, a_server, kill
from tests.e2e.steps import real_model
from tests.support.adapters import LINEARS, linear_shapes, write_adapter

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

# Whose answers are far from a tie at every token, by the base and by both adapters, as far as there
# are any: bfloat16 logits of this size lie 0.125 apart.
QUESTIONS = (
    "Repeat this sentence: The quick brown fox jumps over the lazy dog.",
    "Who was the first president of the United States?",
    "Which animal says meow?",
    "What is two plus two?",
    "What is the square root of 16?",
)
TOKENS = 24
MODELS = (INSTRUCT, "qv", "all")
# Two blocks of 128 tokens and some, so that the prefix cache has something to keep.
LONG = (
    "Tell me which of these words is an animal: " + "stone, river, cloud, candle, " * 40 + "horse."
)


class Ranch(NamedTuple):
    """A running server and the folders of its adapters."""

    server: Server
    folders: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, int]]


def registry(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The shipped chat model with an adapter for each folder."""
    shipped = yaml.safe_load((ROOT / "model_registry.yaml").read_text("utf-8"))
    context = {"length": 1024}
    base = shipped["models"][0] | {"context": context}
    adapters = [
        {"id": name, "base": INSTRUCT, "adapter": {"directory": str(folder)}, "context": context}
        for name, folder in folders.items()
    ]
    return {"models": [base, *adapters]}


def serve(tmp: Path, models: Mapping[str, Any]) -> Iterator[Server]:
    path = tmp / "model_registry.yaml"
    path.write_text(yaml.safe_dump(models), encoding="utf-8")
    with a_server("--registry", str(path)) as server:
        # Not `wait_ready`: some of the adapters are broken.
        server.until(
            lambda: server.health().get("models", {}).get(INSTRUCT) == "ready", "ready", 300
        )
        yield server


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, int]]:
    return linear_shapes(json.loads((real_model() / "config.json").read_text()))


@pytest.fixture(scope="module")
def ranch(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[int, int]]
) -> Iterator[Ranch]:
    tmp = tmp_path_factory.mktemp("adapters")
    folders = {
        "qv": write_adapter(tmp / "qv", shapes, rank=8, seed=3, strength=1.0),
        "all": write_adapter(tmp / "all", shapes, rank=16, targets=LINEARS, seed=3, strength=0.6),
        "changing": write_adapter(tmp / "changing", shapes, seed=3, strength=1.0),
        "broken": write_adapter(tmp / "broken", shapes, seed=4),
        "dora": write_adapter(tmp / "dora", shapes, seed=5, use_dora=True),
        "wide": write_adapter(tmp / "wide", {k: (i + 64, o) for k, (i, o) in shapes.items()}),
    }
    weights = folders["broken"] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for server in serve(tmp, registry(folders)):
        yield Ranch(server, folders, shapes)


@pytest.fixture(scope="module")
def client(ranch: Ranch) -> Iterator[OpenAI]:
    url = ranch.server.url + "/v1"
    with OpenAI(base_url=url, api_key="none", timeout=120, max_retries=0) as client:
        yield client


def ask(client: OpenAI, model: str, question: str = QUESTIONS[1]) -> str:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=TOKENS,
    )
    return answer.choices[0].message.content or ""


async def ask_among_others(client: AsyncOpenAI, model: str, question: str, *, stream: bool) -> str:
    call: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": TOKENS,
    }
    if not stream:
        answer = await client.chat.completions.create(**call)
        return answer.choices[0].message.content or ""
    chunks = await client.chat.completions.create(**call, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def interleaved(
    url: str, calls: list[tuple[str, str]], *, at_once: int
) -> list[tuple[tuple[str, str], str]]:
    """The answers to ``calls``, so many of which run at the same time; every third is streamed."""
    room = asyncio.Semaphore(at_once)
    async with AsyncOpenAI(base_url=url, api_key="none", timeout=300, max_retries=0) as client:

        async def one(number: int, call: tuple[str, str]) -> tuple[tuple[str, str], str]:
            async with room:
                return call, await ask_among_others(client, *call, stream=number % 3 == 0)

        return await asyncio.gather(*(one(n, call) for n, call in enumerate(calls)))


def test_two_adapters_and_base_in_one_batch_answer_as_each_alone(
    ranch: Ranch, client: OpenAI
) -> None:
    calls = [(model, question) for question in QUESTIONS for model in MODELS]
    alone = {call: ask(client, *call) for call in calls}
    for question in QUESTIONS:
        texts = {alone[model, question] for model in MODELS}
        assert len(texts) == 3, f"the adapters change nothing: {texts}"
    sixty = calls * 4
    assert len(sixty) == 60
    got = asyncio.run(interleaved(ranch.server.url + "/v1", sixty, at_once=12))
    assert [text for _, text in got] == [alone[call] for call, _ in got]


def test_the_list_of_models_says_what_belongs_to_what(ranch: Ranch) -> None:
    models = ranch.server.models()
    assert [(m["id"], m["parent"]) for m in models.values()] == [
        (INSTRUCT, None),
        *((name, INSTRUCT) for name in ranch.folders),
    ]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("broken", "its header promises"),
        ("dora", "uses DoRA, which the engine does not know"),
        ("wide", f"The adapter of 'wide' does not fit '{INSTRUCT}': model.layers.0.self_attn."
         "q_proj takes 640 numbers and gives 576, in the model 576 and 576; "),
    ],
)  # fmt: skip
def test_a_broken_adapter_is_an_error_of_that_model_alone(
    ranch: Ranch, client: OpenAI, model: str, why: str
) -> None:
    engine = ranch.server.engine()
    before = ask(client, "qv")
    with pytest.raises(APIStatusError) as caught:
        ask(client, model)
    assert caught.value.status_code == 503
    assert caught.value.code == "adapter_failed"
    assert why in str(caught.value)
    models = ranch.server.models()
    assert models[model]["status"] == "failed"
    assert why in models[model]["status_detail"]
    assert models[INSTRUCT]["status"] == models["qv"]["status"] == "ready"
    assert ask(client, "qv") == before
    assert ranch.server.engine() == engine


def ask_long(ranch: Ranch, model: str) -> tuple[str, int]:
    """The answer to a long question, and how many of its tokens were in the prefix cache."""
    body = {"model": model, "messages": [{"role": "user", "content": LONG}]}
    body |= {"temperature": 0, "max_tokens": TOKENS}
    answer = httpx.post(ranch.server.url + "/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    cached: int = found["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found["choices"][0]["message"]["content"], cached


def test_changed_content_answers_at_once_and_shares_no_prefix_with_what_it_was(
    ranch: Ranch,
) -> None:
    folder = ranch.folders["changing"]
    first, cached = ask_long(ranch, "changing")
    assert cached == 0, "nothing of the base's or of other adapters' prefixes is used"
    assert ask_long(ranch, "changing") == (first, 256)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    write_adapter(folder, ranch.shapes, seed=33, strength=1.0)
    second, cached = ask_long(ranch, "changing")
    assert cached == 0
    assert second != first
    for path, content in files.items():
        path.write_bytes(content)
    again, cached = ask_long(ranch, "changing")
    assert (again, cached) == (first, 256)


def test_after_the_engines_death_an_adapter_answers_as_before(ranch: Ranch, client: OpenAI) -> None:
    before = {model: ask(client, model) for model in MODELS}
    engine = ranch.server.engine()
    assert engine is not None
    kill(engine)
    assert ask(client, "all") == before["all"]
    successor = ranch.server.engine()
    assert successor is not None
    assert successor.pid != engine.pid
    assert {model: ask(client, model) for model in MODELS} == before


def test_the_example_with_one_place_for_two_adapters_that_take_turns(
    tmp_path: Path, shapes: dict[str, tuple[int, int]]
) -> None:
    example = yaml.safe_load((ROOT / "examples" / "registry" / "adapters.yaml").read_text("utf-8"))
    base, *adapters = example["models"]
    # In float32 nothing is near a tie, on any processor.
    base["engine"] |= {"max_adapters": 1, "dtype": "float32"}
    for seed, adapter in enumerate(adapters):
        folder = tmp_path / adapter["id"]
        write_adapter(folder, shapes, targets=LINEARS, seed=seed, strength=0.8)
        adapter["adapter"] = {"directory": str(folder)}
    names = [model["id"] for model in example["models"]]
    assert names == [INSTRUCT, "pirate", "haiku"]
    calls = [(name, question) for question in QUESTIONS[:3] for name in names]
    for server in serve(tmp_path, example):
        url = server.url + "/v1"
        with OpenAI(base_url=url, api_key="none", timeout=120, max_retries=0) as client:
            alone = {call: ask(client, *call) for call in calls}
        told = {tuple(alone[name, question] for question in QUESTIONS[:3]) for name in names}
        assert len(told) == 3, "each tells something else"
        got = asyncio.run(interleaved(url, calls * 3, at_once=6))
        assert [text for _, text in got] == [alone[call] for call, _ in got]
        assert {m["status"] for m in server.models().values()} == {"ready"}
