"""What there is, and how it is."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from server import __version__
from server.errors import EngineDied
from server.registry.schema import Sampling
from tests.support.ranch import Ranch, chat, in_process, until

TINY = {
    "id": "tiny",
    "object": "model",
    "owned_by": "corral",
    "root": "tiny",
    "parent": None,
    "base": None,
    "description": "A test.",
    "aliases": ["org/tiny-chat"],
    "kind": "generate",
    "template": "chatml",
    "defaults": {},
    "status_detail": None,
}


async def test_the_list(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: ranch.herd.resolve("tiny").engines.state.status == "ready")
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["tiny", "talker", "strict", "forgetful"]
    tiny = body["data"][0]
    assert tiny.pop("created") > 1_700_000_000
    assert tiny == TINY | {"status": "ready", "max_model_len": 2048, "size": 2048}
    for path in ("/models", "/v1/models/", "/models/"):
        assert (await client.get(path)).json()["data"][1:] == body["data"][1:]


@pytest.mark.parametrize("name", ["tiny", "org/tiny-chat", "org%2Ftiny-chat"])
async def test_one_model(name: str, ranch: Ranch, client: httpx.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json=chat())
    for prefix in ("/v1", ""):
        body = (await client.get(f"{prefix}/models/{name}")).json()
        del body["created"]
        assert body == TINY | {"status": "ready", "max_model_len": 2048, "size": 2048}


async def test_what_requests_leave_out(client: httpx.AsyncClient) -> None:
    talker = (await client.get("/v1/models/talker")).json()
    assert talker["defaults"] == {"temperature": 0.25, "top_k": -1, "max_tokens": 77, "seed": 5}
    described = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert "defaults" in described["ModelObject"]["required"]
    assert set(described["ModelDefaults"]["properties"]) == set(Sampling.model_fields)


async def test_no_such_model(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/org/none")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "'org/none'" in answer.json()["error"]["message"]


async def test_version_and_description(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json() == {"version": __version__}
    description = (await client.get("/openapi.json")).json()
    assert description["info"] == {"title": "Corral", "version": __version__}
    assert set(description["paths"]) == {
        "/v1/chat/completions",
        "/v1/chat/completions/render",
        "/v1/completions",
        "/v1/conversations",
        "/v1/conversations/{conversation_id}",
        "/v1/conversations/{conversation_id}/items",
        "/v1/conversations/{conversation_id}/items/{item_id}",
        "/v1/detokenize",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel",
        "/v1/responses/{response_id}/input_items",
        "/v1/tokenize",
        "/health",
        "/version",
        "/admin/events",
        "/admin/memory",
        "/admin/models",
        "/admin/models/{model}",
        "/admin/models/{model}/logs",
        "/admin/models/{model}/{action}",
        "/admin/reload",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
    }
    chat_body = description["components"]["schemas"]["ChatBody"]["properties"]
    assert chat_body["stop"]["anyOf"] == [
        {"type": "string", "minLength": 1, "maxLength": 256},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 256},
            "maxItems": 64,
        },
        {"type": "null"},
    ]


async def test_the_server_answers_while_its_models_load(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch([{"id": "slow"}, {"id": "later", "load": "on_demand", "stop": ["x"]}])
    ranch.gate.clear()
    async with in_process(ranch) as client:
        await until(lambda: ranch.engines)
        health = await client.get("/health")
        assert (health.status_code, health.json()) == (
            200,
            {"status": "ok", "models": {"slow": "loading", "later": "loading"}},
        )
        slow = (await client.get("/v1/models/slow")).json()
        assert (slow["status"], slow["status_detail"]) == ("loading", "loading the model")


async def test_what_is_loaded_at_the_start(make_ranch: Callable[..., Ranch]) -> None:
    later = {"id": "later", "load": "on_demand", "engine": {"threads": 3}}
    ranch = make_ranch([{"id": "now", "template": "chatml"}, later])
    async with in_process(ranch) as client:
        await until(lambda: ranch.herd.resolve("now").engines.state.status == "ready")
        assert (await client.get("/health")).json()["models"] == {
            "now": "ready",
            "later": "unloaded",
        }
        assert [spec.name for spec in ranch.specs] == ["now"]
        assert (
            await client.post("/v1/completions", json={"model": "later", "prompt": "x"})
        ).status_code == 200
        assert [(spec.name, spec.threads) for spec in ranch.specs] == [("now", None), ("later", 3)]
    assert [engine.alive for engine in ranch.engines] == [False, False]


async def test_why_a_model_failed(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch([{"id": "broken"}])
    ranch.load_error = EngineDied("no memory")
    async with in_process(ranch) as client:
        await until(lambda: ranch.herd.resolve("broken").engines.state.status == "failed")
        body = (await client.get("/v1/models/broken")).json()
        assert (body["status"], body["status_detail"]) == ("failed", "no memory")
        assert (await client.get("/health")).status_code == 200
