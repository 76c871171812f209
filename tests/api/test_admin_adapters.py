"""Adapters that are added to a running server, as vLLM's clients do it and as entries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api.admin.options import AdminOptions
from server.engines.base import Delta
from server.errors import AdapterFailed
from server.registry.adapter_files import digest_of
from tests.support.adapters import linear_shapes, write_adapter, write_linears
from tests.support.admin import LOCAL, Farm
from tests.support.ranch import Ranch, chat, error, in_process, until, write_tiny_model
from tests.unit.registry.conftest import CONFIG

LLAMA = CONFIG | {"intermediate_size": 96}
SHAPES = linear_shapes(LLAMA)
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
BASE = {
    "id": "base",
    "aliases": ["org/base"],
    "template": "chatml",
    "stop": ["THE END"],
    "sampling": {"temperature": 0.5},
    "engine": {"max_adapters": 4},
}


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    model = write_tiny_model(tmp_path / "tiny")
    write_linears(model, LLAMA)
    return Farm(tmp_path, model)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "lora", SHAPES, rank=4, seed=1)


@pytest.fixture
def ranch(farm: Farm) -> Ranch:
    return farm.ranch(BASE)


@pytest.fixture
async def client(farm: Farm, ranch: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with farm.client(ranch) as client:
        await until(lambda: ranch.herd.resolve("base").engines.state.status == "ready")
        yield client


async def load(client: httpx.AsyncClient, name: str, path: object, **fields: Any) -> httpx.Response:
    body = {"lora_name": name, "lora_path": str(path)} | fields
    return await client.post(LOAD, json=body)


async def served(client: httpx.AsyncClient) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


def refused(answer: httpx.Response) -> tuple[int, str, str, str]:
    found = answer.json()["error"]
    return answer.status_code, found["message"], found["param"], found["code"]


async def test_an_adapter_comes_and_goes(
    farm: Farm, lora: Path, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await load(client, "org/mine", lora)
    assert (answer.status_code, answer.text) == (
        200,
        "Success: LoRA adapter 'org/mine' added successfully.",
    )
    (engine,) = ranch.engines
    assert engine.adapter_log == ["+org/mine"], "taken in before anybody asks for it"
    model = (await client.get("/v1/models/org/mine")).json()
    assert (model["parent"], model["template"], model["status"]) == ("base", "chatml", "ready")
    # It is asked as its base is.
    assert (await client.post("/v1/chat/completions", json=chat("org/mine"))).status_code == 200
    assert ranch.request.adapter is not None
    assert ranch.request.adapter.digest == digest_of(lora)
    assert ranch.request.sampling.stop == ("THE END",)
    assert ranch.request.sampling.temperature == 0.5
    hosted = (await client.get("/admin/models/org/mine")).json()["models"]
    assert [(m["id"], m["base"], m["added"], m["status"]) for m in hosted] == [
        ("base", None, False, "ready"),
        ("org/mine", "base", True, "ready"),
    ]
    answer = await client.post(UNLOAD, json={"lora_name": "org/mine", "lora_int_id": 3})
    assert (answer.status_code, answer.text) == (
        200,
        "Success: LoRA adapter 'org/mine' removed successfully.",
    )
    assert await served(client) == ["base"]
    assert ranch.engines == [engine]


async def test_it_is_there_after_a_restart(farm: Farm, lora: Path) -> None:
    async with farm.running(BASE) as (_, client):
        assert (await load(client, "mine", lora)).status_code == 200
    async with farm.running(BASE) as (ranch, client):
        assert await served(client) == ["base", "mine"]
        assert (await client.post("/v1/chat/completions", json=chat("mine"))).status_code == 200
        assert ranch.request.adapter is not None
        await client.post(UNLOAD, json={"lora_name": "mine"})
    async with farm.running(BASE) as (_, client):
        assert await served(client) == ["base"]


async def test_its_answers_are_finished_when_it_goes(
    lora: Path, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await load(client, "mine", lora)
    gate = asyncio.Event()
    ranch.play_after(gate, [Delta(0, "x", [1])], Delta(0, "y", [2], finish_reason="stop"))
    call = asyncio.create_task(client.post("/v1/chat/completions", json=chat("mine")))
    await until(lambda: ranch.requests)
    assert (await client.post(UNLOAD, json={"lora_name": "mine"})).status_code == 200
    gate.set()
    assert (await call).json()["choices"][0]["message"]["content"] == "xy"
    refusal = await client.post("/v1/chat/completions", json=chat("mine"))
    assert refusal.json()["error"]["code"] == "model_not_found"


async def test_twice_only_in_place(
    lora: Path, tmp_path: Path, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await load(client, "mine", lora)
    assert refused(await load(client, "mine", lora)) == (
        400,
        "The lora adapter 'mine' has already been loaded. If you want to load the adapter in "
        "place, set 'load_inplace' to True.",
        "lora_name",
        "model_exists",
    )
    other = write_adapter(tmp_path / "other", SHAPES, rank=8, seed=2)
    for path in (other, other):  # also what is there already, whose files have changed
        assert (await load(client, "mine", path, load_inplace=True)).status_code == 200
        await client.post("/v1/chat/completions", json=chat("mine"))
        assert ranch.request.adapter is not None
        assert ranch.request.adapter.digest == digest_of(path)
        write_adapter(other, SHAPES, rank=8, seed=3)
    assert (await load(client, "new", lora, load_inplace=True)).status_code == 200


async def test_a_bad_one_changes_nothing(
    farm: Farm, lora: Path, tmp_path: Path, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await load(client, "mine", lora)
    larger = linear_shapes(LLAMA | {"hidden_size": 128})
    misfit = write_adapter(tmp_path / "misfit", larger, rank=4)
    answer = await load(client, "other", misfit)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(
        "The adapter of 'other' does not fit 'base': model.layers.0.self_attn.q_proj takes 128"
    )
    (tmp_path / "empty").mkdir()
    answer = await load(client, "mine", tmp_path / "empty", load_inplace=True)
    assert refused(answer)[2:] == ("adapter", "adapter_failed")
    assert refused(await load(client, "other", tmp_path / "none")) == (
        404,
        f"Loading lora other failed: No adapter found for {tmp_path}/none",
        None,
        "adapter_not_found",
    )
    assert await served(client) == ["base", "mine"]
    await client.post("/v1/chat/completions", json=chat("mine"))
    assert ranch.request.adapter is not None
    assert ranch.request.adapter.digest == digest_of(lora)
    async with farm.running(BASE) as (_, other_client):
        assert await served(other_client) == ["base", "mine"]


async def test_one_that_the_engine_refuses(
    lora: Path, tmp_path: Path, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    """It may still be found wrong when it is taken in; then all is as it was."""
    await load(client, "mine", lora)
    other = write_adapter(tmp_path / "other", SHAPES, rank=4, seed=2)
    ranch.engines[0].adapter_error = AdapterFailed("x", "It has too large a rank.")
    for name, fields in (("other", {}), ("mine", {"load_inplace": True})):
        answer = await load(client, name, other, **fields)
        assert refused(answer) == (400, "It has too large a rank.", "adapter", "adapter_failed")
    ranch.engines[0].adapter_error = None
    assert await served(client) == ["base", "mine"]
    await client.post("/v1/chat/completions", json=chat("mine"))
    assert ranch.request.adapter is not None
    assert ranch.request.adapter.digest == digest_of(lora)


@pytest.mark.parametrize("name", ["mine", "base", "org/base"])
async def test_what_was_never_loaded_cannot_be_unloaded(
    name: str, client: httpx.AsyncClient
) -> None:
    assert refused(await client.post(UNLOAD, json={"lora_name": name})) == (
        404,
        f"The lora adapter '{name}' cannot be found.",
        None,
        "adapter_not_found",
    )


async def test_names_that_are_taken(lora: Path, client: httpx.AsyncClient) -> None:
    assert refused(await load(client, "base", lora, load_inplace=True)) == (
        400,
        "The lora adapter 'base' conflicts with a served base model.",
        "lora_name",
        "model_exists",
    )
    answer = await load(client, "org/base", lora)
    assert answer.json()["error"]["problems"] == [
        {
            "where": "org/base",
            "field": "id",
            "message": "the name 'org/base' is already used by the model 'base'",
        }
    ]


async def test_adapters_of_the_file_stay(farm: Farm, lora: Path) -> None:
    entry = {"id": "theirs", "base": "base", "adapter": {"directory": str(lora)}}
    async with farm.running(BASE) as (_, client):
        farm.write_whole([farm.entry(BASE), entry])
        assert (await client.post("/admin/reload")).json()["added"] == ["theirs"]
        assert refused(await load(client, "theirs", lora, load_inplace=True)) == (
            400,
            "The lora adapter 'theirs' stands in the registry file: change it there.",
            "lora_name",
            "model_exists",
        )
        code, message, *_ = refused(await client.post(UNLOAD, json={"lora_name": "theirs"}))
        assert (code, message.partition(":")[0]) == (400, f"'theirs' stands in {farm.registry}")


# --- which base -------------------------------------------------------------------------------


async def test_the_base_may_be_said(farm: Farm, lora: Path) -> None:
    other = {"id": "other", "template": "raw", "engine": {"threads": 1}}
    async with farm.running(BASE, other) as (ranch, client):
        await until(lambda: len(ranch.engines) == 2)
        # Exactly one was made for adapters.
        assert (await load(client, "a", lora)).status_code == 200
        assert (await load(client, "b", lora, base_model="org/base")).status_code == 200
        assert (await load(client, "c", lora, base_model_name="other")).status_code == 200
        data = (await client.get("/v1/models")).json()["data"]
        assert [(m["id"], m["base"], m["template"]) for m in data[2:]] == [
            ("a", "base", "chatml"),
            ("b", "base", "chatml"),
            ("c", "other", "raw"),
        ]
        # Now both were.
        assert refused(await load(client, "d", lora)) == (
            400,
            "Several models can take an adapter: 'base', 'other'. Say which one with 'base_model'.",
            "base_model",
            "missing_required_parameter",
        )
        assert refused(await load(client, "d", lora, base_model="none"))[:3] == (
            400,
            "There is no model 'none' to put an adapter on.",
            "base_model",
        )
        assert refused(await load(client, "d", lora, base_model="a"))[:3] == (
            400,
            "'a' is an adapter itself, of 'base'.",
            "base_model",
        )


async def test_an_only_model_is_the_base(farm: Farm, lora: Path) -> None:
    """Its engine has no room: another one takes over, once the first has finished."""
    tiny = {"id": "tiny", "template": "chatml"}
    raw = {"id": "raw", "template": "raw"}
    async with farm.running(tiny, raw) as (ranch, client):
        await until(lambda: ranch.herd.resolve("tiny").engines.state.status == "ready")
        gate = asyncio.Event()
        ranch.play_after(gate, [Delta(0, "x", [1])], Delta(0, "y", [2], finish_reason="stop"))
        call = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        await until(lambda: ranch.requests)
        assert (await load(client, "mine", lora)).status_code == 200
        gate.set()
        assert (await call).json()["choices"][0]["message"]["content"] == "xy"
        assert (await client.post("/v1/chat/completions", json=chat("mine"))).status_code == 200
        await until(lambda: [engine.alive for engine in ranch.engines] == [False, True])
        assert [spec.max_adapters for spec in ranch.specs] == [0, 2]


async def test_an_engine_with_places_goes_on_whatever_comes(
    farm: Farm, lora: Path, tmp_path: Path
) -> None:
    base = {"id": "base", "template": "chatml"}
    one = {"id": "one", "base": "base", "adapter": {"directory": str(lora)}}
    one |= {"template": "chatml"}
    others = {
        name: write_adapter(tmp_path / name, SHAPES, rank=4, seed=seed)
        for seed, name in enumerate(("two", "three"), start=2)
    }
    async with farm.running(base, one) as (ranch, client):
        await until(lambda: ranch.herd.resolve("base").engines.state.status == "ready")
        for name, folder in others.items():
            assert (await load(client, name, folder)).status_code == 200
        for name in ("one", "two", "three"):
            ranch.play(Delta(0, "ok", [1], finish_reason="stop"))
            answer = await client.post("/v1/chat/completions", json=chat(name))
            assert answer.status_code == 200, answer.text
        # The two places were enough for the second; the third takes turns with them.
        assert [spec.max_adapters for spec in ranch.specs] == [2]
        assert [engine.alive for engine in ranch.engines] == [True]


# --- as entries -------------------------------------------------------------------------------


async def test_adapters_as_entries(lora: Path, tmp_path: Path, client: httpx.AsyncClient) -> None:
    entry = {"id": "mine", "base": "base", "adapter": {"directory": str(lora)}, "template": "raw"}
    assert (await client.post("/admin/models", json=entry)).status_code == 201
    assert (await client.get("/v1/models/mine")).json()["template"] == "raw"
    broken = entry | {"id": "other", "adapter": {"directory": str(tmp_path / "none")}}
    answer = await client.post("/admin/models", json=broken)
    assert refused(answer) == (
        400,
        f"The adapter folder {tmp_path}/none does not exist.",
        "adapter",
        "adapter_failed",
    )
    assert await served(client) == ["base", "mine"]
    assert (await client.delete("/admin/models/mine")).status_code == 200


async def test_a_base_with_adapters_stays(farm: Farm, lora: Path) -> None:
    async with farm.running(BASE) as (_, client):
        second = farm.entry({"id": "second", "engine": {"threads": 1}, "load": "on_demand"})
        await client.post("/admin/models", json=second)
        entry = {"id": "mine", "base": "second", "adapter": {"directory": str(lora)}}
        assert (await client.post("/admin/models", json=entry)).status_code == 201
        answer = await client.delete("/admin/models/second")
        assert (answer.status_code, answer.json()) == (
            400,
            error(
                "'second' is the base of mine. Remove them first.",
                param="model",
                code="model_in_use",
            ),
        )
        for name in ("mine", "second"):
            assert (await client.delete(f"/admin/models/{name}")).status_code == 200


async def test_a_base_that_has_left_the_file(farm: Farm, lora: Path) -> None:
    other = {"id": "other", "template": "raw", "engine": {"threads": 1}, "load": "on_demand"}
    async with farm.running(BASE, other) as (_, client):
        await load(client, "mine", lora)
        farm.write(other)
        body = (await client.post("/admin/reload")).json()
        assert body["removed"] == ["base", "mine"]
        assert [(entry["id"], entry["reason"]) for entry in body["shadowed"]] == [
            ("mine", "base: unknown model 'base' (known: other)")
        ]
        assert (await client.post(UNLOAD, json={"lora_name": "mine"})).status_code == 200
        assert (await client.get("/admin/models")).json()["shadowed"] == []


# --- who may ----------------------------------------------------------------------------------


async def test_adapters_are_for_operators(farm: Farm, lora: Path) -> None:
    model = farm.entry(BASE)
    for options, headers, status in (
        (AdminOptions(local=False), {}, 403),
        (AdminOptions(keys=["secret"]), {}, 401),
        (AdminOptions(keys=["secret"]), {"authorization": "Bearer secret"}, 404),
        (AdminOptions(local=True), {"origin": "https://evil.example"}, 403),
        (AdminOptions(local=True), {}, 404),
    ):
        ranch = Ranch(farm.model, farm.folder / "cache", [model], admin=options)
        async with in_process(ranch, LOCAL) as client:
            for path in (UNLOAD, UNLOAD.removeprefix("/v1")):
                answer = await client.post(path, json={"lora_name": "x"}, headers=headers)
                assert (path, answer.status_code) == (path, status)
                assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"lora_name": "x"}, "Missing required parameter: 'lora_path'.", "lora_path"),
        (
            {"lora_name": "", "lora_path": "x"},
            "Invalid value for 'lora_name': string should have at least 1 character.",
            "lora_name",
        ),
        (
            {"lora_name": "x", "lora_path": "/x", "is_3d_lora_weight": True},
            "'is_3d_lora_weight' is not supported by this server: adapters change linear layers.",
            "is_3d_lora_weight",
        ),
    ],
)
async def test_wrong_bodies(
    body: dict[str, Any], message: str, param: str, client: httpx.AsyncClient
) -> None:
    assert refused(await client.post(LOAD, json=body))[:3] == (400, message, param)


async def test_fields_nobody_knows_are_named(lora: Path, client: httpx.AsyncClient) -> None:
    answer = await load(client, "mine", lora, colour="red")
    assert answer.headers["x-corral-ignored-fields"] == "colour"
    strict = {"lora_name": "y", "lora_path": str(lora), "colour": "red"}
    answer = await client.post(LOAD + "?strict=true", json=strict)
    assert refused(answer)[2:] == ("colour", "unknown_parameter")
