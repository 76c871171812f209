"""What operators see of engines, and what they have done to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from server.api.schemas.admin import EngineList, EngineObject, MemoryObject
from server.engines.base import Delta
from server.engines.ledger import Need
from server.errors import EngineDied, SourceError
from server.registry.progress import Progress
from server.registry.sources import ModelStore
from tests.support.admin import Farm, exact, ids
from tests.support.ranch import Ranch, chat, error, until

TINY = {"id": "tiny", "aliases": ["org/tiny-chat"], "description": "A test.", "template": "chatml"}
RAW = {"id": "raw", "template": "raw", "load": "on_demand"}
OTHER = {
    "id": "org/other",
    "template": "chatml",
    "load": "on_demand",
    "engine": {"threads": 1},
    "idle_timeout": "5m",
}
NEED = Need(weights=100, kv_cache=20, overhead=3, loading=7)
HOSTED = [
    {
        "id": "tiny",
        "aliases": ["org/tiny-chat"],
        "description": "A test.",
        "kind": "generate",
        "base": None,
        "load": "startup",
        "status": "ready",
        "detail": None,
        "added": False,
    },
    {
        "id": "raw",
        "aliases": [],
        "description": "",
        "kind": "generate",
        "base": None,
        "load": "on_demand",
        "status": "ready",
        "detail": None,
        "added": False,
    },
]


@pytest.fixture
async def ranch(farm: Farm) -> Ranch:
    ranch = farm.ranch(TINY, RAW, OTHER, budget=1000)
    ranch.need_of_all = NEED
    return ranch


@pytest.fixture
async def client(farm: Farm, ranch: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with farm.client(ranch) as client:
        yield client


def status(ranch: Ranch, name: str) -> str:
    return ranch.herd.resolve(name).engines.state.status


async def test_every_engine_with_its_models(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    body = (await client.get("/admin/models")).json()
    assert {"object": body["object"], "shadowed": body["shadowed"]} == {
        "object": "list",
        "shadowed": [],
    }
    exact(EngineList, body)
    assert ids(body["data"]) == [["tiny", "raw"], ["org/other"]]
    tiny, other = body["data"]
    replica = tiny["replicas"][0]
    for timed in (tiny, replica):
        assert timed.pop("since") > 1_700_000_000
    assert 0 <= replica.pop("idle_seconds") < 5
    assert 0 <= replica.pop("load_seconds") < 5
    assert tiny == {
        "id": "tiny",
        "object": "engine",
        "models": HOSTED,
        "status": "ready",
        "detail": None,
        "pinned": False,
        "idle_timeout": None,
        "requests": {"running": 0, "waiting": 0},
        "tokens_per_second": 0.0,
        "replicas": [
            {
                "status": "ready",
                "detail": None,
                "devices": ["ram"],
                "memory": {
                    "held": {"ram": 123},
                    "need": {
                        "weights": 100,
                        "kv_cache": 20,
                        "adapters": 0,
                        "overhead": 3,
                        "loading": 7,
                        "devices": 1,
                        "host": 0,
                    },
                    "measured": None,
                },
                "requests": {"running": 0, "waiting": 0},
                "tokens_per_second": 0.0,
                "failures": 0,
                "retry_after_seconds": None,
                "progress": None,
            }
        ],
    }
    assert (other["status"], other["idle_timeout"]) == ("unloaded", 300.0)
    assert other["replicas"][0]["devices"] == []
    assert other["replicas"][0]["memory"] == {"held": {}, "need": None, "measured": None}


@pytest.mark.parametrize("name", ["tiny", "org/tiny-chat", "org%2Ftiny-chat", "raw"])
async def test_one_engine_by_any_of_its_names(
    name: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    body = (await client.get(f"/admin/models/{name}")).json()
    assert (body["id"], body["models"]) == ("tiny", HOSTED)


async def test_no_such_model(client: httpx.AsyncClient) -> None:
    expected = error(
        "The model 'org/none' does not exist or you do not have access to it. GET /v1/models lists "
        "the models of this server.",
        param="model",
        code="model_not_found",
    )
    for answer in (
        await client.get("/admin/models/org/none"),
        await client.get("/admin/models/org/none/logs"),
        await client.post("/admin/models/org/none/load"),
        await client.post("/admin/models/org/none/unload?wait=false"),
        await client.post("/admin/models/org/none/pin"),
        await client.delete("/admin/models/org/none"),
    ):
        assert (answer.status_code, answer.json()) == (404, expected)


async def test_measured_memory_is_that_of_the_engines_processes(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    import os

    await until(lambda: status(ranch, "tiny") == "ready")
    ranch.engines[0].pids = (os.getpid(),)
    replica = (await client.get("/admin/models/tiny")).json()["replicas"][0]
    assert replica["memory"]["measured"]["ram"] > 10_000_000


async def test_requests_and_what_waits(ranch: Ranch, client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    ranch.play_after(gate, [Delta(0, "x", [1])], Delta(0, "y", [2], finish_reason="stop"))
    calls = [
        asyncio.create_task(client.post("/v1/chat/completions", json=chat())) for _ in range(3)
    ]
    await until(lambda: len(ranch.requests) == 3)
    body = (await client.get("/admin/models/tiny")).json()
    assert body["requests"] == {"running": 3, "waiting": 0}
    assert body["replicas"][0]["idle_seconds"] == 0.0
    gate.set()
    await asyncio.gather(*calls)
    body = (await client.get("/admin/models/tiny")).json()
    assert body["requests"] == {"running": 0, "waiting": 0}


async def test_load_progress(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.gate.clear()
    answer = await client.post("/admin/models/org/other/load?wait=false")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (202, "loading")
    await until(lambda: len(ranch.engines) == 2)
    body = (await client.get("/admin/models/org/other")).json()
    exact(EngineObject, body)
    assert (body["status"], body["detail"]) == ("loading", "loading the model")
    assert body["requests"] == {"running": 0, "waiting": 1}
    replica = body["replicas"][0]
    assert replica["memory"]["held"] == {"ram": 130}, "with what it takes while it loads"
    assert replica["progress"] == {
        "stage": "loading the model",
        "done": 0,
        "total": None,
        "unit": "",
        "expected_seconds": None,
    }
    ranch.gate.set()
    await until(lambda: status(ranch, "org/other") == "ready")


async def test_progress_of_fetching(
    ranch: Ranch, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    there, go_on = threading.Event(), threading.Event()

    def prepare(_: object, source: object, progress: Progress) -> None:
        progress.start("download org/weights", 1000, "B")
        progress.advance(100)
        progress.advance(150)
        there.set()
        go_on.wait(10)
        progress.finish()
        raise SourceError("The disk is full.")

    monkeypatch.setattr(ModelStore, "prepare", prepare)
    ranch.herd.resolve("org/other")._weights._files = None
    await client.post("/admin/models/org/other/load?wait=false")
    await asyncio.to_thread(there.wait, 5)
    body = (await client.get("/admin/models/org/other")).json()
    assert body["replicas"][0]["progress"] == {
        "stage": "download org/weights",
        "done": 250,
        "total": 1000,
        "unit": "B",
        "expected_seconds": None,
    }
    go_on.set()
    await until(lambda: status(ranch, "org/other") == "failed")
    replica = (await client.get("/admin/models/org/other")).json()["replicas"][0]
    assert (replica["detail"], replica["failures"]) == ("The disk is full.", 1)
    assert 8 < replica["retry_after_seconds"] <= 10
    assert replica["progress"] is None


async def test_load_and_unload(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    for _ in range(2):  # loading what is loaded does nothing
        answer = await client.post("/admin/models/org/other/load")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        assert len(ranch.engines) == 2
    for _ in range(2):
        answer = await client.post("/admin/models/org/other/unload")
        assert (answer.status_code, answer.json()["status"]) == (200, "unloaded")
    assert [engine.alive for engine in ranch.engines] == [True, False]
    # Whoever asks for it has it loaded again.
    answer = await client.post("/v1/chat/completions", json=chat("org/other"))
    assert answer.status_code == 200
    assert len(ranch.engines) == 3


async def test_unloading_lets_answers_finish(ranch: Ranch, client: httpx.AsyncClient) -> None:
    gate = asyncio.Event()
    ranch.play_after(gate, [Delta(0, "x", [1])], Delta(0, "y", [2], finish_reason="stop"))
    call = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
    await until(lambda: ranch.requests)
    answer = await client.post("/admin/models/tiny/unload?wait=false")
    assert answer.status_code == 202
    await until(lambda: status(ranch, "tiny") == "draining")
    gate.set()
    assert (await call).json()["choices"][0]["message"]["content"] == "xy"
    await until(lambda: status(ranch, "tiny") == "unloaded")


async def test_a_load_makes_room_as_a_request_does(farm: Farm) -> None:
    ranch = farm.ranch(TINY, OTHER, budget=150)
    ranch.need_of_all = NEED
    async with farm.client(ranch) as client:
        await until(lambda: status(ranch, "tiny") == "ready")
        ranch.herd.pool.policy = type(ranch.herd.pool.policy)(min_residency=0, grace=0)
        answer = await client.post("/admin/models/org/other/load")
        assert answer.json()["status"] == "ready"
        assert status(ranch, "tiny") == "unloaded"


async def test_a_load_that_fails_says_why(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.load_error = EngineDied("no memory left")
    for tries in (1, 2):  # an operator need not wait until it may be tried again
        answer = await client.post("/admin/models/org/other/load")
        assert (answer.status_code, answer.json()) == (
            503,
            error("no memory left", kind="service_unavailable_error", code="model_failed"),
        )
        assert len([spec for spec in ranch.specs if spec.threads == 1]) == tries
    ranch.load_error = None
    assert (await client.post("/admin/models/org/other/load")).json()["status"] == "ready"


async def test_unloading_ends_a_load(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    ranch.gate.clear()
    load = asyncio.create_task(client.post("/admin/models/org/other/load"))
    await until(lambda: len(ranch.engines) == 2)
    answer = await client.post("/admin/models/org/other/unload")
    assert (answer.status_code, answer.json()["status"]) == (200, "unloaded")
    refused = await load
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_unloaded"


async def test_restart(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    answer = await client.post("/admin/models/raw/restart")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert [engine.alive for engine in ranch.engines] == [False, True]


async def test_sleep_and_wake(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    engine = ranch.engines[0]
    engine.can_sleep = True
    for body, level in ((None, 1), ({"level": 2}, 2)):
        answer = (
            await client.post("/admin/models/tiny/sleep", json=body)
            if body
            else (await client.post("/admin/models/tiny/sleep"))
        )
        said = answer.json()
        assert (answer.status_code, said["status"], said["detail"]) == (
            200,
            "sleeping",
            f"level {level}",
        )
        assert engine.asleep == level
        answer = await client.post("/admin/models/tiny/wake")
        assert (answer.json()["status"], engine.asleep) == ("ready", 0)
    assert ranch.engines == [engine]


async def test_what_cannot_sleep_is_unloaded(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    answer = await client.post("/admin/models/tiny/sleep")
    assert answer.json()["status"] == "unloaded"


async def test_a_pinned_engine_stays(farm: Farm) -> None:
    ranch = farm.ranch(TINY, OTHER, budget=150)
    ranch.need_of_all = NEED
    async with farm.client(ranch) as client:
        await until(lambda: status(ranch, "tiny") == "ready")
        answer = await client.post("/admin/models/tiny/pin")
        assert (answer.status_code, answer.json()["pinned"]) == (200, True)
        refused = await client.post("/admin/models/org/other/load")
        assert refused.json()["error"]["message"] == (
            "There is no room for 'org/other': it lacks 1 MiB beside pinned models (tiny)."
        )
        answer = await client.post("/admin/models/tiny/unpin")
        assert answer.json()["pinned"] is False
        assert (await client.post("/admin/models/org/other/load")).status_code == 200


async def test_replicas_are_told_apart(farm: Farm) -> None:
    twins = {"id": "twins", "engine": {"replicas": 2}}
    async with farm.running(twins) as (ranch, client):
        await until(lambda: all(s.status == "ready" for s in ranch.herd.pool.slots))
        body = (await client.get("/admin/models/twins")).json()
        assert [replica["status"] for replica in body["replicas"]] == ["ready", "ready"]
        assert (await client.post("/admin/models/twins/unload")).json()["status"] == "unloaded"
        assert [engine.alive for engine in ranch.engines] == [False, False]
        assert (await client.post("/admin/models/twins/load")).status_code == 200
        assert len(ranch.engines) == 4


async def test_memory(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await until(lambda: status(ranch, "tiny") == "ready")
    body = (await client.get("/admin/memory")).json()
    exact(MemoryObject, body)
    assert body == {
        "object": "memory",
        "devices": [{"id": "ram", "budget": 1000, "held": 123, "free": 877}],
        "holdings": [{"engine": "tiny", "status": "ready", "leaving": False, "held": {"ram": 123}}],
    }


@pytest.mark.parametrize(
    ("path", "body", "message", "param"),
    [
        (
            "/admin/models/tiny/fly",
            None,
            "Invalid value for 'action': input should be 'load', 'unload', 'sleep', 'wake', "
            "'restart', 'pin' or 'unpin'.",
            "action",
        ),
        (
            "/admin/models/tiny/load?wait=perhaps",
            None,
            "Invalid value for 'wait': input should be a valid boolean, unable to interpret input.",
            "wait",
        ),
        (
            "/admin/models/tiny/load",
            {"level": 1},
            "'level' is for sleep alone, not for load.",
            "level",
        ),
        (
            "/admin/models/tiny/sleep",
            {"level": 3},
            "Invalid value for 'level': input should be 1 or 2.",
            "level",
        ),
        (
            "/admin/models/tiny/sleep",
            {"depth": 1},
            "Invalid value for 'depth': extra inputs are not permitted.",
            "depth",
        ),
    ],
)
async def test_wrong_wishes(
    path: str, body: Any, message: str, param: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post(path, json=body) if body else await client.post(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["param"] == param


async def test_a_body_must_be_json(client: httpx.AsyncClient) -> None:
    for headers in ({"content-type": "text/plain"}, {}):
        answer = await client.post("/admin/models/tiny/unload", content=b"{}", headers=headers)
        assert answer.status_code == 415


async def test_who_leaves_stops_nothing(farm: Farm, ranch: Ranch) -> None:
    async with farm.client(ranch) as client:
        await until(lambda: status(ranch, "tiny") == "ready")
        ranch.gate.clear()
        load = asyncio.create_task(client.post("/admin/models/org/other/load"))
        await until(lambda: len(ranch.engines) == 2)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        ranch.gate.set()
        await until(lambda: status(ranch, "org/other") == "ready")
