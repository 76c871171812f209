"""What operators watch: the herd's events, and the logs of engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api.admin import events as events_module
from server.api.admin.logs import tail
from server.engines.log_files import engine_log, previous_log
from tests.support.admin import Farm
from tests.support.ranch import error, listening, until

TINY = {"id": "org/tiny", "aliases": ["tiny"], "template": "chatml"}


async def frames(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream, comments left out."""
    text = ""
    async for piece in answer.aiter_text():
        text += piece
        *whole, text = text.split("\n\n")
        for frame in whole:
            if not frame.startswith(":"):
                name, data = frame.split("\n")
                assert name == "event: herd"
                yield json.loads(data.removeprefix("data: "))


async def test_events_tell_what_changes_and_nothing_else(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "EVERY_S", 0.02)
    stopping = False
    ranch = farm.ranch(TINY, stopping=lambda: stopping)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url, timeout=5) as client:
        await until(lambda: ranch.herd.resolve("tiny").engines.state.status == "ready")
        async with client.stream("GET", "/admin/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            seen = frames(answer)
            first = await anext(seen)
            assert first["memory"] == (await client.get("/admin/memory")).json()
            listed = (await client.get("/admin/models")).json()
            clocks = first["models"]["data"][0]["replicas"][0].pop("idle_seconds")
            assert listed["data"][0]["replicas"][0].pop("idle_seconds") >= clocks
            assert first["models"] == listed
            nothing = asyncio.ensure_future(anext(seen))
            await asyncio.sleep(0.3)
            assert not nothing.done(), "time passes, nothing happens"
            await client.post("/admin/models/tiny/unload")
            statuses = [(await nothing)["models"]["data"][0]["status"]]
            while statuses[-1] != "unloaded":
                statuses.append((await anext(seen))["models"]["data"][0]["status"])
            assert set(statuses) <= {"ready", "draining", "unloading", "unloaded"}
            stopping = True
            rest = [frame async for frame in seen]
            assert all(frame["models"]["data"][0]["status"] == "unloaded" for frame in rest)


def log_of(farm: Farm) -> Path:
    return engine_log(farm.log_dir, "org/tiny")


async def test_the_last_lines_of_a_log(farm: Farm) -> None:
    async with farm.running(TINY) as (_, client):
        answer = await client.get("/admin/models/org/tiny/logs")
        assert (answer.status_code, answer.json()) == (
            404,
            error("Log with id 'org/tiny' not found."),
        )
        lines = [f"line {number} ä\n" for number in range(20_000)]
        log_of(farm).write_text("".join(lines))
        previous_log(log_of(farm)).write_text("before\n")
        for query, expected in (
            ("", lines[-100:]),
            ("?lines=0", []),
            ("?lines=1", lines[-1:]),
            ("?lines=7000", lines[-7000:]),
            ("?lines=50000", lines),
            ("?previous=true", ["before\n"]),
        ):
            answer = await client.get(f"/admin/models/tiny/logs{query}")
            assert (answer.status_code, answer.text) == (200, "".join(expected))
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert (await client.get("/admin/models/tiny/logs?lines=-1")).status_code == 400
        assert (await client.get("/admin/models/tiny/logs?lines=100001")).status_code == 400


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        (b"", 5, b""),
        (b"\n", 5, b"\n"),
        (b"one", 5, b"one"),
        (b"one\ntwo", 1, b"two"),
        (b"one\ntwo\n", 1, b"two\n"),
        (b"\n\n\n", 2, b"\n\n"),
        (b"a\r\nb\r\n", 1, b"b\r\n"),
        (b"x" * 200_000 + b"\nend\n", 2, b"x" * 200_000 + b"\nend\n"),
    ],
)
def test_tail(content: bytes, lines: int, expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert tail(path, lines) == expected


def test_no_more_than_some_mebibytes_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes((b"y" * 1023 + b"\n") * (20 << 10))
    assert 7 << 20 < len(tail(path, 1_000_000)) <= 9 << 20


async def test_following_a_log(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.admin.logs._LOOK_EVERY_S", 0.02)
    log_of(farm).write_text("one\ntwo\n")
    stopping = False
    ranch = farm.ranch(TINY, stopping=lambda: stopping)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url, timeout=5) as client:
        path = "/admin/models/tiny/logs?lines=1&follow=true"
        async with client.stream("GET", path) as answer:
            seen = answer.aiter_text()
            assert await anext(seen) == "two\n"
            with log_of(farm).open("a") as log:
                log.write("three\n")
                log.flush()
                assert await anext(seen) == "three\n"
            # The engine is started anew: its log is another file.
            log_of(farm).rename(previous_log(log_of(farm)))
            await asyncio.sleep(0.1)
            log_of(farm).write_text("four\n")
            assert await anext(seen) == "four\n"
            log_of(farm).write_text("5\n")  # cut
            assert await anext(seen) == "5\n"
            stopping = True
            assert [text async for text in seen] == []


async def test_who_stops_following_leaves_nothing_behind(farm: Farm) -> None:
    log_of(farm).write_text("one\n")
    ranch = farm.ranch(TINY)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url, timeout=5) as client:
        before = len(asyncio.all_tasks())
        async with client.stream("GET", "/admin/models/tiny/logs?follow=true") as answer:
            assert await anext(answer.aiter_text()) == "one\n"
            assert len(asyncio.all_tasks()) > before
        await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_server_that_stops_waits_for_no_operator(farm: Farm) -> None:
    stopping = False
    ranch = farm.ranch(TINY, stopping=lambda: stopping)
    async with farm.client(ranch) as client:
        await until(lambda: ranch.herd.resolve("tiny").engines.state.status == "ready")
        await client.post("/admin/models/tiny/unload")
        ranch.gate.clear()
        load = asyncio.create_task(client.post("/admin/models/tiny/load"))
        await until(lambda: len(ranch.engines) == 2)
        stopping = True
        answer = await load
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "server_stopping"
