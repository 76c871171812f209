"""Models that are adapters of another: one engine, and what is broken fails alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.engines.base import Delta
from server.errors import AdapterFailed, EngineDied
from server.registry.adapter_files import digest_of
from tests.support.adapters import LINEARS, linear_shapes, write_adapter, write_linears
from tests.support.ranch import Ranch, chat, error, events, in_process, until, write_tiny_model
from tests.unit.registry.conftest import CONFIG

LLAMA = CONFIG | {"intermediate_size": 96}
SHAPES = linear_shapes(LLAMA)
UNAVAILABLE = "service_unavailable_error"


class Stable:
    """A base with two adapters, and what tests change about them."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = write_tiny_model(tmp_path / "tiny")
        write_linears(self.directory, LLAMA)
        self.cache = tmp_path / "cache"
        self.one = write_adapter(tmp_path / "one", SHAPES, rank=4, seed=1)
        self.two = write_adapter(tmp_path / "two", SHAPES, rank=20, targets=LINEARS, seed=2)

    def ranch(self, engine: dict[str, Any] | None = None, **options: Any) -> Ranch:
        base = {"id": "base", "template": "chatml", "load": "on_demand", "engine": engine or {}}
        return Ranch(
            self.directory,
            self.cache,
            [base, self.entry("one", self.one), self.entry("two", self.two)],
            **options,
        )

    @staticmethod
    def entry(name: str, folder: Path) -> dict[str, Any]:
        adapter = {"directory": str(folder)}
        return {
            "id": name,
            "base": "base",
            "adapter": adapter,
            "template": "chatml",
            "load": "on_demand",
        }


@pytest.fixture
def stable(tmp_path: Path) -> Stable:
    return Stable(tmp_path)


@pytest.fixture
def ranch(stable: Stable) -> Ranch:
    return stable.ranch()


@pytest.fixture
async def client(ranch: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with in_process(ranch) as client:
        yield client


async def ask(client: httpx.AsyncClient, model: str) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=chat(model))


async def ok(client: httpx.AsyncClient, *models: str) -> None:
    for model in models:
        answer = await ask(client, model)
        assert answer.status_code == 200, answer.text


async def status(client: httpx.AsyncClient, model: str) -> tuple[str, str | None]:
    body = (await client.get(f"/v1/models/{model}")).json()
    return body["status"], body["status_detail"]


async def test_base_and_adapters_share_one_engine(
    stable: Stable, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await ok(client, "base", "one", "two", "one")
    (engine,) = ranch.engines
    assert engine.adapter_log == ["+one", "+two"]
    used = [request.adapter for request in engine.requests]
    assert used[0] is None
    assert [(a.name, a.rank, a.digest) for a in used[1:] if a is not None] == [
        ("one", 4, digest_of(stable.one)),
        ("two", 20, digest_of(stable.two)),
        ("one", 4, digest_of(stable.one)),
    ]
    (spec,) = ranch.specs
    assert (spec.name, spec.max_adapters, spec.max_adapter_rank) == ("base", 2, 20)
    width = sum(inputs + outputs for inputs, outputs in SHAPES.values())
    assert spec.adapter_bytes == 32 * width * 2  # vLLM makes room for 32 where 20 are wanted


async def test_engines_read_copies_that_stay(
    stable: Stable, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await ok(client, "one")
    adapter = ranch.request.adapter
    assert adapter is not None
    assert adapter.directory == stable.cache / "adapters" / "copies" / adapter.digest


async def test_changed_content_is_another_adapter_at_the_next_request(
    stable: Stable, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await ok(client, "one")
    before = ranch.request.adapter
    write_adapter(stable.one, SHAPES, rank=4, seed=9)
    await ok(client, "one")
    after = ranch.request.adapter
    assert before is not None
    assert after is not None
    assert after.digest == digest_of(stable.one) != before.digest
    assert ranch.engines[0].adapter_log == ["+one", "+one"]


async def test_the_list_of_models_tells_bases(client: httpx.AsyncClient) -> None:
    data = (await client.get("/v1/models")).json()["data"]
    assert [(m["id"], m["root"], m["parent"], m["base"], m["kind"]) for m in data] == [
        ("base", "tiny", None, None, "generate"),
        ("one", "one", "base", "base", "generate"),
        ("two", "two", "base", "base", "generate"),
    ]


async def test_a_broken_adapter_fails_alone_and_is_mended_at_once(
    stable: Stable, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    weights = stable.one / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    answer = await ask(client, "one")
    why = f"{weights} has {len(whole) - 1} bytes; its header promises {len(whole)}."
    assert answer.status_code == 503
    assert answer.json() == error(why, kind=UNAVAILABLE, code="adapter_failed")
    assert answer.headers["retry-after"] == "10"
    assert ranch.engines == [], "no engine is loaded for it"
    await ok(client, "base", "two")
    assert await status(client, "one") == ("failed", why)
    assert await status(client, "base") == ("ready", None)
    assert await status(client, "two") == ("ready", None)
    health = (await client.get("/health")).json()
    assert health["models"] == {"base": "ready", "one": "failed", "two": "ready"}
    # Not looked at again for a while, but for changed files.
    assert int((await ask(client, "one")).headers["retry-after"]) <= 10
    weights.write_bytes(whole)
    await ok(client, "one")
    assert await status(client, "one") == ("ready", None)


@pytest.mark.parametrize(
    ("config", "shapes", "words"),
    [
        ({"use_dora": True}, SHAPES, "uses DoRA, which the engine does not know"),
        ({}, linear_shapes(LLAMA | {"hidden_size": 128}), "The adapter of 'one' does not fit "
         "'base': model.layers.0.self_attn.q_proj takes 128 numbers and gives 128, in the model 64 "
         "and 64; "),
    ],
)  # fmt: skip
async def test_adapters_that_are_not_served_or_do_not_fit(
    stable: Stable,
    client: httpx.AsyncClient,
    config: dict[str, Any],
    shapes: dict[str, tuple[int, int]],
    words: str,
) -> None:
    write_adapter(stable.one, shapes, rank=4, **config)
    answer = await ask(client, "one")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_failed")
    assert words in answer.json()["error"]["message"]
    await ok(client, "base", "two")


async def test_an_adapter_of_no_numbers_is_refused(
    stable: Stable, client: httpx.AsyncClient
) -> None:
    write_adapter(stable.one, SHAPES, rank=4, strength=float("nan"))
    answer = await ask(client, "one")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_failed")
    assert "holds what is no number (NaN, infinity)" in answer.json()["error"]["message"]


async def test_what_the_engine_refuses_fails_alone_too(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await ok(client, "base")
    ranch.engines[0].adapter_error = AdapterFailed("one", "It cannot be read.")
    answer = await ask(client, "one")
    assert answer.status_code == 503
    assert answer.json() == error("It cannot be read.", kind=UNAVAILABLE, code="adapter_failed")
    ranch.engines[0].adapter_error = None
    await ok(client, "two", "base")
    assert await status(client, "one") == ("failed", "It cannot be read.")
    assert await status(client, "base") == ("ready", None)


async def test_in_anthropics_words(stable: Stable, client: httpx.AsyncClient) -> None:
    (stable.one / "adapter_config.json").unlink()
    body = {"model": "one", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await client.post("/v1/messages", json=body)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == (
        f"{stable.one} holds no adapter_config.json, so it is no LoRA adapter."
    )


async def test_an_adapter_is_held_until_its_answer_ends(
    stable: Stable,
) -> None:
    ranch = stable.ranch({"max_adapters": 1}, load_wait_seconds=0.2)
    gate = asyncio.Event()
    ranch.play_after(gate, [Delta(0, "He", [1])], Delta(0, "llo", [2], finish_reason="stop"))
    async with in_process(ranch) as client:
        slow = asyncio.create_task(ask(client, "one"))
        await until(lambda: ranch.requests)
        full = await ask(client, "two")
        assert (full.status_code, full.headers["retry-after"]) == (429, "5")
        assert full.json()["error"]["message"] == (
            "All places for adapters (1) are in use, so 'two' cannot be loaded. Try again shortly."
        )
        also = asyncio.create_task(ask(client, "base"))  # needs no place
        gate.set()
        assert (await slow).status_code == (await also).status_code == 200
        await ok(client, "two")
        assert ranch.engines[0].adapter_log == ["+one", "-one", "+two"]


async def test_who_leaves_lets_go_of_the_adapter(stable: Stable) -> None:
    ranch = stable.ranch({"max_adapters": 1})
    never = asyncio.Event()
    ranch.play_after(never, [Delta(0, "He", [1])], Delta(0, "", [], finish_reason="stop"))
    async with in_process(ranch) as client:
        leaving = asyncio.create_task(ask(client, "one"))
        await until(lambda: ranch.requests)
        leaving.cancel()
        await until(lambda: ranch.aborted)
        ranch.play(Delta(0, "ok", [1], finish_reason="stop"))
        await ok(client, "two")


async def test_a_stream_by_an_adapter(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json=chat("one", stream=True))
    chunks = events(answer.content)
    assert chunks[-1] == "[DONE]"
    assert {chunk["model"] for chunk in chunks[:-1]} == {"one"}


async def test_an_engine_that_was_loaded_again_is_given_its_adapters_again(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await ok(client, "one")
    ranch.play(EngineDied("It ended."))
    assert (await ask(client, "one")).json()["error"]["code"] == "engine_died"
    ranch.play(Delta(0, "ok", [1], finish_reason="stop"))
    await ok(client, "one")
    # The request that ended the first engine was begun once more, and ended the second.
    assert [engine.adapter_log for engine in ranch.engines] == [["+one"]] * 3


async def test_at_start_adapters_are_loaded_as_the_registry_says(stable: Stable) -> None:
    (stable.two / "adapter_config.json").write_text("{}")
    entries = [
        {"id": "base", "template": "chatml"},
        stable.entry("one", stable.one) | {"load": "startup"},
        stable.entry("two", stable.two) | {"load": "startup"},
        stable.entry("later", stable.one),
    ]
    ranch = Ranch(stable.directory, stable.cache, entries)
    async with in_process(ranch) as client:
        await until(lambda: ranch.engines and ranch.engines[0].adapter_log == ["+one"])
        assert await status(client, "base") == ("ready", None)
        found, why = await status(client, "two")
        assert found == "failed"
        assert why is not None
        assert "states no rank" in why
        # The same content under another name is the same adapter.
        await ok(client, "later")
        assert ranch.engines[0].adapter_log == ["+one"]


async def test_room_as_the_registry_says(stable: Stable) -> None:
    ranch = stable.ranch({"max_adapters": 5, "max_adapter_rank": 64})
    async with in_process(ranch) as client:
        await ok(client, "base")
    assert (ranch.specs[0].max_adapters, ranch.specs[0].max_adapter_rank) == (5, 64)


async def test_without_adapters_an_engine_makes_no_room(
    make_ranch: Callable[..., Ranch],
) -> None:
    ranch = make_ranch()
    async with in_process(ranch) as client:
        await ok(client, "tiny")
    assert ranch.specs[0].max_adapters == 0


@asynccontextmanager
async def embedding(stable: Stable) -> AsyncGenerator[tuple[Ranch, httpx.AsyncClient], None]:
    base = {"id": "base", "kind": "embedding", "load": "on_demand"}
    ranch = Ranch(stable.directory, stable.cache, [base, stable.entry("one", stable.one)])
    async with in_process(ranch) as client:
        yield ranch, client


async def test_embeddings_by_an_adapter(stable: Stable) -> None:
    async with embedding(stable) as (ranch, client):
        for model in ("one", "base"):
            answer = await client.post("/v1/embeddings", json={"model": model, "input": "Hi"})
            assert answer.status_code == 200, answer.text
        first, second = ranch.engines[0].embedded
        assert first.adapter is not None
        assert first.adapter.name == "one"
        assert second.adapter is None


async def test_an_adapters_tokenizer_and_template_are_there_without_an_engine(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    body = {"model": "one", "messages": [{"role": "user", "content": "Hi"}]}
    rendered = await client.post("/v1/chat/completions/render", json=body)
    assert rendered.status_code == 200
    assert json.loads(rendered.content)["prompt"].startswith("<|im_start|>user")
    assert ranch.engines == []
