"""The registry of a running server: added to, taken from, read again, and kept."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api.schemas.admin import ChangesObject, EngineList
from server.engines.base import Delta
from server.engines.ledger import Need
from server.engines.spec import EngineSpec
from server.errors import EngineDied
from tests.support.admin import Farm, exact, ids
from tests.support.ranch import Ranch, chat, error, events, until

TINY = {"id": "tiny", "template": "chatml"}
OTHER = {"id": "other", "template": "chatml", "engine": {"threads": 1}}
NEW = {"id": "org/new", "aliases": ["newer"], "template": "chatml", "engine": {"threads": 2}}
NOTHING: dict[str, Any] = {
    "object": "registry.changes",
    "added": [],
    "removed": [],
    "changed": [],
    "shadowed": [],
}


async def served(client: httpx.AsyncClient) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


async def answers(client: httpx.AsyncClient, model: str) -> bool:
    answer = await client.post("/v1/chat/completions", json=chat(model))
    return answer.status_code == 200


async def shadowed(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    body = (await client.get("/admin/models")).json()
    return [(entry["id"], entry["reason"]) for entry in body["shadowed"]]


async def test_an_added_model_is_served_and_kept(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        answer = await client.post("/admin/models", json=farm.entry(NEW))
        assert answer.status_code == 201
        assert ids([answer.json()]) == [["org/new"]]
        assert answer.json()["models"][0]["added"] is True
        assert await served(client) == ["tiny", "org/new"]
        assert await answers(client, "newer")
    async with farm.running(TINY) as (ranch, client):
        # From the very first request on.
        assert await served(client) == ["tiny", "org/new"]
        await until(lambda: len(ranch.engines) == 2)  # both are loaded at the start
        answer = await client.delete("/admin/models/org/new")
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": "org/new", "object": "model", "deleted": True},
        )
        assert await served(client) == ["tiny"]
        assert not await answers(client, "org/new")
        await until(lambda: [engine.alive for engine in ranch.engines] == [True, False])
    async with farm.running(TINY) as (_, client):
        assert await served(client) == ["tiny"]


async def test_removing_a_model_lets_its_answers_finish(farm: Farm) -> None:
    async with farm.running(TINY) as (ranch, client):
        await client.post("/admin/models", json=farm.entry(NEW))
        gate = asyncio.Event()
        ranch.play_after(gate, [Delta(0, "x", [1])], Delta(0, "y", [2], finish_reason="stop"))
        call = asyncio.create_task(client.post("/v1/chat/completions", json=chat("org/new")))
        await until(lambda: ranch.requests)
        assert (await client.delete("/admin/models/org/new")).status_code == 200
        assert await served(client) == ["tiny"]
        holdings = (await client.get("/admin/memory")).json()["holdings"]
        assert ("org/new", True) in [(held["engine"], held["leaving"]) for held in holdings]
        gate.set()
        assert (await call).json()["choices"][0]["message"]["content"] == "xy"


async def test_relative_directories_start_at_the_registrys_folder(farm: Farm) -> None:
    (farm.folder / "here").symlink_to(farm.model)
    async with farm.running(TINY) as (ranch, client):
        entry = NEW | {"source": {"directory": "here"}}
        assert (await client.post("/admin/models", json=entry)).status_code == 201
        assert await answers(client, "org/new")
        assert ranch.specs[-1].model_dir == farm.model.resolve()


async def test_what_is_wrong_with_an_entry(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        entry = {"id": "x y", "source": {"directry": "d"}, "contxt": {}, "aliases": ["a", "tiny"]}
        answer = await client.post("/admin/models", json=entry)
        problems = [
            ("x y", "aliases.1", "the name 'tiny' is already used by the model 'tiny'"),
            (
                "x y",
                "id",
                "must be letters, digits and . _ : / - , beginning with a letter or digit, "
                "not 'x y'",
            ),
            ("x y", "source", "unknown field 'directry' (did you mean 'directory'?)"),
            ("x y", "entry", "unknown field 'contxt' (did you mean 'context'?)"),
        ]
        body = error(
            "\n".join(f"{where}: {field}: {message}" for where, field, message in problems),
            code="registry_invalid",
        )
        body["error"]["problems"] = [
            {"where": where, "field": field, "message": message}
            for where, field, message in problems
        ]
        assert (answer.status_code, answer.json()) == (400, body)
        answer = await client.post("/admin/models", json={})
        assert [problem["where"] for problem in answer.json()["error"]["problems"]] == [
            "the new model"
        ] * len(answer.json()["error"]["problems"])
        assert (await client.post("/admin/models", json=[1])).status_code == 400
        assert await served(client) == ["tiny"]


async def test_a_name_that_is_taken(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        answer = await client.post("/admin/models", json=farm.entry({"id": "tiny"}))
        assert (answer.status_code, answer.json()) == (
            400,
            error(
                f"There is a model 'tiny' already: it stands in {farm.registry}.",
                param="id",
                code="model_exists",
            ),
        )
        assert (await client.post("/admin/models", json=farm.entry(NEW))).status_code == 201
        again = NEW | {"description": "Another."}
        answer = await client.post("/admin/models", json=farm.entry(again))
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            400,
            "There is a model 'org/new' already: it was added before.",
        )
        answer = await client.post("/admin/models?replace=true", json=farm.entry(again))
        assert answer.status_code == 201
        assert answer.json()["models"][0]["description"] == "Another."


async def test_models_of_the_file_stay(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        answer = await client.delete("/admin/models/tiny")
        assert (answer.status_code, answer.json()) == (
            400,
            error(
                f"'tiny' stands in {farm.registry}: take it out there. Only models that were added "
                "by the API can be removed by it.",
                param="model",
                code="model_in_file",
            ),
        )
        assert await served(client) == ["tiny"]


async def test_the_file_comes_first(farm: Farm) -> None:
    clash = {"id": "clash", "template": "raw", "engine": {"threads": 3}}
    async with farm.running(TINY) as (_, client):
        await client.post("/admin/models", json=farm.entry(NEW))
        await client.post("/admin/models", json=farm.entry(clash))
        assert await shadowed(client) == []
    # Somebody writes entries of the same names into the file.
    mine = {"id": "clash", "template": "chatml", "description": "The file's."}
    alias = TINY | {"aliases": ["newer"]}
    async with farm.running(alias, mine) as (_, client):
        assert await served(client) == ["tiny", "clash"]
        exact(EngineList, (await client.get("/admin/models")).json())
        assert await shadowed(client) == [
            ("org/new", "aliases.0: the name 'newer' is already used by the model 'tiny'"),
            ("clash", "id: the name 'clash' is already used by the model 'clash'"),
        ]
        clashing = (await client.get("/admin/models/clash")).json()["models"]
        assert [
            (m["id"], m["description"], m["added"]) for m in clashing if m["id"] == "clash"
        ] == [("clash", "The file's.", False)]
        # Once the file lets go of a name, what was added is served again.
        farm.write(TINY, mine)
        body = (await client.post("/admin/reload")).json()
        exact(ChangesObject, body)
        assert (body["added"], [entry["id"] for entry in body["shadowed"]]) == (
            ["org/new"],
            ["clash"],
        )
        assert await served(client) == ["tiny", "clash", "org/new"]
        # What is set aside can be taken away for good.
        assert (await client.delete("/admin/models/clash")).status_code == 200
        assert await shadowed(client) == []
        farm.write(TINY)
        await client.post("/admin/reload")
        assert await served(client) == ["tiny", "org/new"]


async def test_servers_of_the_same_file_share_what_was_added(farm: Farm) -> None:
    async with farm.running(TINY) as (_, one), farm.running(TINY) as (_, two):
        await one.post("/admin/models", json=farm.entry(NEW))
        assert (await two.post("/admin/reload")).json()["added"] == ["org/new"]
        await two.delete("/admin/models/org/new")
        assert (await one.post("/admin/reload")).json()["removed"] == ["org/new"]
        assert (await served(one), await served(two)) == (["tiny"], ["tiny"])


async def test_each_registry_file_has_its_own(farm: Farm, tmp_path: Path) -> None:
    async with farm.running(TINY) as (_, client):
        await client.post("/admin/models", json=farm.entry(NEW))
    farm.registry = tmp_path / "another.yaml"
    async with farm.running(TINY) as (_, client):
        assert await served(client) == ["tiny"]


async def test_reload(farm: Farm) -> None:
    async with farm.running(TINY, OTHER) as (ranch, client):
        await until(lambda: len(ranch.engines) == 2)
        assert (await client.post("/admin/reload")).json() == NOTHING
        later = {"id": "later", "engine": {"threads": 3}, "load": "on_demand"}
        farm.write(TINY | {"description": "New words."}, NEW, later)
        assert (await client.post("/admin/reload")).json() == NOTHING | {
            "added": ["org/new", "later"],
            "removed": ["other"],
            "changed": ["tiny"],
        }
        assert await served(client) == ["tiny", "org/new", "later"]
        # What is new is loaded if it says so; what goes is stopped; the rest is left alone.
        await until(lambda: [engine.alive for engine in ranch.engines] == [True, False, True])
        assert [spec.threads for spec in ranch.specs] == [None, 1, 2]


async def test_a_bad_file_is_refused_whole(farm: Farm) -> None:
    async with farm.running(TINY) as (ranch, client):
        await until(lambda: len(ranch.engines) == 1)
        farm.registry.write_text(
            "models:\n  - id: tiny\n    template: chtml\n  - id: new\n    source: {hub: nothing}\n"
        )
        answer = await client.post("/admin/reload")
        assert answer.status_code == 400
        found = answer.json()["error"]
        assert found["code"] == "registry_invalid"
        assert found["problems"] == [
            {
                "where": f"{farm.registry}:2",
                "field": "models.0.source",
                "message": "is required: one of directory, hub, package; or 'base' and 'adapter' "
                "for an adapter",
            },
            {
                "where": f"{farm.registry}:3",
                "field": "models.0.template",
                "message": "unknown template 'chtml' (did you mean 'chatml'?)",
            },
            {
                "where": f"{farm.registry}:5",
                "field": "models.1.source.hub",
                "message": "must be a repository as organisation/name, not 'nothing'",
            },
        ]
        assert found["message"].splitlines()[1].endswith("(did you mean 'chatml'?)")
        farm.registry.unlink()
        answer = await client.post("/admin/reload")
        assert answer.json()["error"]["problems"][0]["field"] == "file"
        assert await served(client) == ["tiny"]
        assert await answers(client, "tiny")
        assert len(ranch.engines) == 1


def refuse_long_contexts(ranch: Ranch) -> None:
    """Engines for more than 1,000 tokens cannot be on this machine."""
    need = ranch.need

    async def refusing(spec: EngineSpec) -> Need:
        if spec.max_model_len > 1000:
            raise EngineDied(f"'{spec.name}' asks for too long a context.")
        return await need(spec)

    ranch.need = refusing  # type: ignore[method-assign]


async def test_engines_that_cannot_be_cost_the_others_nothing(farm: Farm) -> None:
    short = TINY | {"context": {"length": 100}}
    long = {"id": "long", "template": "raw"}  # shares the engine, and asks for 2,048 tokens
    ranch = farm.ranch(short)
    refuse_long_contexts(ranch)
    async with farm.client(ranch) as client:
        await until(lambda: len(ranch.engines) == 1)
        problem = {
            "where": "tiny",
            "field": "engine",
            "message": "'tiny' asks for too long a context.",
        }
        for models in ([TINY], [short, long]):
            farm.write(*models)
            answer = await client.post("/admin/reload")
            assert answer.status_code == 400
            assert answer.json()["error"]["problems"] == [problem]
        answer = await client.post("/admin/models", json=farm.entry(long))
        assert answer.status_code == 400
        assert answer.json()["error"]["problems"] == [problem | {"where": "long"}]
        assert await served(client) == ["tiny"]
        assert await answers(client, "tiny")
        assert [engine.alive for engine in ranch.engines] == [True]


async def test_an_added_model_that_has_become_impossible_is_set_aside(farm: Farm) -> None:
    short = TINY | {"context": {"length": 100}}
    long = {"id": "long", "template": "raw"}
    async with farm.running(short) as (_, client):
        await client.post("/admin/models", json=farm.entry(long))
    ranch = farm.ranch(short)
    refuse_long_contexts(ranch)
    async with farm.client(ranch) as client:
        # Whether it can be is known once the files are there.
        await until(lambda: len(ranch.engines) == 1 or ranch.herd.engines()[0].state.detail)
        farm.write(short | {"description": "New words."})
        body = (await client.post("/admin/reload")).json()
        assert [(entry["id"], entry["reason"]) for entry in body["shadowed"]] == [
            ("long", "'tiny' asks for too long a context.")
        ]
        assert await answers(client, "tiny")


async def test_pins_outlive_a_reload_until_the_registry_says_something_new(farm: Farm) -> None:
    async def pinned(client: httpx.AsyncClient) -> bool:
        return bool((await client.get("/admin/models/tiny")).json()["pinned"])

    async with farm.running(TINY) as (_, client):
        await client.post("/admin/models/tiny/pin")
        farm.write(TINY | {"description": "New words."})
        await client.post("/admin/reload")
        assert await pinned(client)
        farm.write(TINY | {"pin": True})
        await client.post("/admin/reload")
        assert await pinned(client)
        farm.write(TINY)
        await client.post("/admin/reload")
        assert not await pinned(client)


async def test_without_a_file_there_is_nothing_to_reload(farm: Farm) -> None:
    async with farm.running(TINY, registry=None) as (_, client):
        answer = await client.post("/admin/reload")
        assert (answer.status_code, answer.json()) == (
            400,
            error("This server was started without a registry file."),
        )


# --- the database -----------------------------------------------------------------------------


async def test_a_broken_database_stops_nothing(farm: Farm) -> None:
    (farm.folder / "corral.db").write_bytes(b"no database at all " * 100)
    async with farm.running(TINY) as (_, client):
        assert await answers(client, "tiny")
        answer = await client.post("/admin/models", json=farm.entry(NEW))
        assert (answer.status_code, answer.json()) == (
            503,
            error(
                "The server's database cannot be used now: its file is damaged. Nothing was "
                "changed.",
                kind="service_unavailable_error",
                code="storage_failed",
            ),
        )
        assert await served(client) == ["tiny"]
        # The file can still be read again.
        farm.write(TINY, OTHER)
        assert (await client.post("/admin/reload")).json()["added"] == ["other"]


async def test_what_was_added_comes_when_the_database_does(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.generation.keeper._PAUSES_S", (0.05,))
    monkeypatch.setattr("server.storage.database._RETRY_S", 0.0)
    monkeypatch.setattr("server.api.admin.desk._OPEN_WITHIN_S", 0.2)
    async with farm.running(TINY) as (_, client):
        await client.post("/admin/models", json=farm.entry(NEW))
    database = farm.folder / "corral.db"
    database.rename(farm.folder / "away")
    database.write_bytes(b"no database at all " * 100)
    async with farm.running(TINY) as (ranch, client):
        assert await served(client) == ["tiny"]
        (farm.folder / "away").replace(database)
        await until(lambda: len(ranch.herd.models()) == 2)
        assert await served(client) == ["tiny", "org/new"]


async def test_nonsense_in_the_database_is_set_aside(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        await client.post("/admin/models", json=farm.entry(NEW))
    with sqlite3.connect(farm.folder / "corral.db") as connection:
        row = (str(farm.registry), "odd", 0, 1, "[1, 2]")
        connection.execute("INSERT INTO added_entries VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    async with farm.running(TINY) as (_, client):
        assert await served(client) == ["tiny", "org/new"]
        assert [name for name, _ in await shadowed(client)] == ["odd"]
        assert (await client.delete("/admin/models/odd")).status_code == 200


async def test_without_a_database_nothing_can_be_added(farm: Farm) -> None:
    async with farm.running(TINY, database_url=None) as (_, client):
        answer = await client.post("/admin/models", json=farm.entry(NEW))
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == (
            "This server has no database and keeps nothing. Nothing was changed."
        )


# --- under load -------------------------------------------------------------------------------


async def test_no_stream_is_dropped_whatever_the_file_says(farm: Farm) -> None:
    """Streams come and go all the time, over models that stay, change, move and go."""
    other = OTHER | {"load": "on_demand"}
    idle = {"id": "idle", "engine": {"threads": 7}}
    files: list[list[dict[str, Any]]] = [
        [TINY | {"description": "New words."}, other, idle],
        [TINY, other, NEW],  # a new model, and an idle one goes
        [TINY | {"context": {"length": 512}}, other, NEW],  # another engine for a busy model
        [other, TINY | {"context": {"length": 512}}, NEW | {"aliases": []}],
        [TINY, other | {"engine": {"threads": 1, "max_num_seqs": 4}}],
        [TINY, other],
    ]
    async with farm.running(TINY, other, idle, watch=True) as (ranch, client):
        ranch.script = slow
        stop = asyncio.Event()
        streams = [
            asyncio.create_task(keep_asking(client, model, stop))
            for model in ("tiny", "other")
            for _ in range(4)
        ]
        for models in files:
            await asyncio.sleep(0.15)
            farm.write(*models)
            body = (await client.post("/admin/reload")).json()
            assert body["object"] == "registry.changes"
        await asyncio.sleep(0.15)
        stop.set()
        counts = await asyncio.gather(*streams)
        assert min(counts) >= 5
        assert ranch.aborted == []
        # Engines that are no longer wanted have ended, after their last stream.
        await until(lambda: len(ranch.herd.pool.slots) == 2)
        assert len(ranch.engines) >= 6
        assert sum(engine.alive for engine in ranch.engines) == 2


def slow(_: object) -> list[Delta | float]:
    """An answer of five tokens that takes a while."""
    pieces: list[Delta | float] = []
    for number in range(5):
        pieces += [0.01, Delta(0, str(number), [number + 3])]
    pieces[-1] = Delta(0, "4", [7], finish_reason="stop")
    return pieces


async def keep_asking(client: httpx.AsyncClient, model: str, stop: asyncio.Event) -> int:
    """Streams one after the other, all of them whole; how many."""
    count = 0
    while not stop.is_set():
        answer = await client.post("/v1/chat/completions", json=chat(model, stream=True))
        assert answer.status_code == 200
        *chunks, last = events(answer.content)
        assert last == "[DONE]"
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert text == "01234"
        count += 1
    return count


async def test_changes_at_the_same_time_are_made_one_after_the_other(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        names = [f"m{number}" for number in range(8)]
        posts = [
            client.post("/admin/models", json=farm.entry({"id": name, "load": "on_demand"}))
            for name in names
        ]
        made = await asyncio.gather(*posts, client.post("/admin/reload"))
        assert [answer.status_code for answer in made] == [201] * 8 + [200]
        assert sorted(await served(client)) == [*names, "tiny"]
        gone = await asyncio.gather(*(client.delete(f"/admin/models/{name}") for name in names))
        assert {answer.status_code for answer in gone} == {200}
    ranch = farm.ranch(TINY)
    assert isinstance(ranch, Ranch)
    async with farm.client(ranch) as client:
        assert await served(client) == ["tiny"]
