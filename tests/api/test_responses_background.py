"""Responses that are made whether or not somebody listens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from server.engines.base import Delta
from server.errors import EngineDied
from server.storage import Storage
from tests.support.ranch import Ranch, in_process, listening, until
from tests.support.stored import URL, ask, response_events, settled, short, valid

HALF = Delta(0, "Hel", [1])
REST = Delta(0, "lo", [2], "stop")


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    return make_ranch(database_url=database_url)


async def begun(client: httpx.AsyncClient, **fields: Any) -> str:
    """The id of a response that is made in the background."""
    body = valid(await client.post(URL, json=ask(background=True, **fields)))
    assert (body["status"], body["output"], body["background"]) == ("queued", [], True)
    number: str = body["id"]
    return number


async def ended(client: httpx.AsyncClient, number: str) -> dict[str, Any]:
    """The response once it has ended."""
    async with asyncio.timeout(10):
        while True:
            body = valid(await client.get(f"{URL}/{number}"))
            if body["status"] not in ("queued", "in_progress"):
                return body
            await asyncio.sleep(0.01)


async def test_it_is_made_and_kept(client: httpx.AsyncClient) -> None:
    number = await begun(client)
    body = await ended(client, number)
    assert body["status"] == "completed"
    assert body["output"][0]["content"][0]["text"] == "Hello"
    assert body["usage"]["total_tokens"] == 24
    inputs = (await client.get(f"{URL}/{number}/input_items")).json()["data"]
    assert [item["content"][0]["text"] for item in inputs] == ["Hi"]
    answer = await client.post(f"{URL}/{number}/cancel")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Cannot cancel a response that is completed."


async def test_it_can_be_seen_as_it_grows(ranch: Ranch, client: httpx.AsyncClient) -> None:
    go_on = asyncio.Event()
    ranch.play_after(go_on, [HALF], REST)
    number = await begun(client)
    await until(lambda: ranch.requests)
    await asyncio.sleep(0.05)
    body = valid(await client.get(f"{URL}/{number}"))
    assert (body["status"], body["output"][0]["status"]) == ("in_progress", "in_progress")
    refused = await client.post(URL, json=ask(previous_response_id=number))
    assert refused.status_code == 400
    assert "still being made" in refused.json()["error"]["message"]
    go_on.set()
    assert (await ended(client, number))["status"] == "completed"


async def test_it_is_cancelled(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(HALF, 30.0)
    number = await begun(client)
    await until(lambda: ranch.requests)
    await asyncio.sleep(0.05)
    body = valid(await client.post(f"{URL}/{number}/cancel"))
    assert (body["status"], body["usage"], body["completed_at"]) == ("cancelled", None, None)
    assert [item["status"] for item in body["output"]] == ["incomplete"]
    assert len(ranch.aborted) == 1
    # Again, which changes nothing.
    assert valid(await client.post(f"{URL}/{number}/cancel")) == body
    assert valid(await client.get(f"{URL}/{number}")) == body


async def test_it_is_cancelled_before_it_begins(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(30.0)
    number = await begun(client)
    body = valid(await client.post(f"{URL}/{number}/cancel"))
    assert (body["status"], body["output"]) == ("cancelled", [])


async def test_it_is_deleted_while_it_is_made(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(HALF, 30.0)
    number = await begun(client)
    assert (await client.delete(f"{URL}/{number}")).status_code == 200
    assert (await client.get(f"{URL}/{number}")).status_code == 404


async def test_others_cannot_be_cancelled(client: httpx.AsyncClient) -> None:
    number = valid(await client.post(URL, json=ask()))["id"]
    answer = await client.post(f"{URL}/{number}/cancel")
    assert answer.status_code == 400
    assert "Only responses with 'background': true" in answer.json()["error"]["message"]


async def test_a_failure_is_kept(ranch: Ranch, client: httpx.AsyncClient) -> None:
    for steps in ([EngineDied("Gone.")], [HALF, EngineDied("Gone.")]):
        ranch.play(*steps)
        body = await ended(client, await begun(client))
        assert body["status"] == "failed"
        assert body["error"] == {"code": "server_error", "message": "Gone."}
        assert len(body["output"]) == len(steps) - 1


async def test_it_waits_while_the_server_is_busy(
    make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    ranch = make_ranch(database_url=database_url, max_running=1)
    go_on = asyncio.Event()
    ranch.play_after(go_on, [HALF], REST)
    async with in_process(ranch) as client:
        before = asyncio.create_task(client.post(URL, json=ask()))
        await until(lambda: ranch.requests)
        number = await begun(client)
        # So many at most wait.
        more = await client.post(URL, json=ask(background=True))
        assert (more.status_code, more.headers["retry-after"]) == (429, "5")
        await asyncio.sleep(0.05)
        assert valid(await client.get(f"{URL}/{number}"))["status"] == "queued"
        go_on.set()
        assert (await before).status_code == 200
        assert (await ended(client, number))["status"] == "completed"


async def test_its_events(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=ask(background=True, stream=True))
    events = response_events(answer.content)
    assert [short(event) for event in events] == [
        "created",
        "queued",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta Hel",
        "output_text.delta lo",
        "output_text.done Hello",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    statuses = [event["response"]["status"] for event in events if "response" in event]
    assert statuses == ["queued", "queued", "in_progress", "completed"]
    response = events[-1]["response"]
    assert valid(await client.get(f"{URL}/{response['id']}")) == response


async def test_a_listener_leaves_and_comes_back(ranch: Ranch) -> None:
    go_on = asyncio.Event()
    ranch.play_after(go_on, [HALF], REST)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url, timeout=10) as client:
        heard = b""
        async with client.stream("POST", URL, json=ask(background=True, stream=True)) as answer:
            async for part in answer.aiter_raw():
                heard += part
                if b"output_text.delta" in heard:
                    break
        frames = [frame for frame in heard.split(b"\n\n") if frame]
        number = json.loads(frames[0].split(b"data: ")[1])["response"]["id"]
        assert ranch.aborted == []
        back = asyncio.create_task(
            client.get(f"{URL}/{number}?stream=true&starting_after={len(frames) - 1}")
        )
        await asyncio.sleep(0.05)
        go_on.set()
        rest = (await back).content
    events = response_events(b"\n\n".join(frames) + b"\n\n" + rest)
    assert [event["delta"] for event in events if "delta" in event] == ["Hel", "lo"]
    assert events[-1]["type"] == "response.completed"


async def test_a_cancelled_stream_ends(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(HALF, 30.0)
    number = await begun(client)
    await until(lambda: ranch.requests)
    listener = asyncio.create_task(client.get(f"{URL}/{number}?stream=true"))
    await asyncio.sleep(0.05)
    await client.post(f"{URL}/{number}/cancel")
    events = response_events((await listener).content)
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["status"] == "cancelled"


async def test_a_server_that_stops_says_so(
    ranch: Ranch, make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    ranch.play(HALF, 30.0)
    async with in_process(ranch) as client:
        number = await begun(client)
        await until(lambda: ranch.requests)
    async with in_process(make_ranch(database_url=database_url)) as client:
        body = valid(await client.get(f"{URL}/{number}"))
        assert body["status"] == "failed"
        assert "The server is stopping" in body["error"]["message"]


async def orphan(database_url: str, like: dict[str, Any]) -> tuple[Storage, str]:
    """A response that some other server is making, or was when it was killed."""
    from server.storage.responses import Record

    storage = Storage(database_url)
    body = like | {"id": "resp_" + "0" * 32, "status": "queued", "output": [], "usage": None}
    await storage.responses.add(Record(owner="", body=body, inputs=[]))
    return storage, body["id"]


async def test_a_server_that_was_killed_leaves_a_failed_response(
    client: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = await ended(client, await begun(client))
    storage, number = await orphan(database_url, like)
    # For a minute it may still be alive.
    assert valid(await client.get(f"{URL}/{number}"))["status"] == "queued"
    now = time.time()
    monkeypatch.setattr("server.api.responses.background.time.time", lambda: now + 61)
    body = valid(await client.get(f"{URL}/{number}"))
    assert (body["status"], body["error"]) == (
        "failed",
        {"code": "server_error", "message": "The server ended before the response did."},
    )
    await storage.database.close()


async def test_a_response_of_another_server(
    client: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.responses.routes._LOOK_S", 0.02)
    like = await ended(client, await begun(client))
    storage, number = await orphan(database_url, like)
    listener = asyncio.create_task(client.get(f"{URL}/{number}?stream=true"))
    await asyncio.sleep(0.1)
    body = valid(await client.post(f"{URL}/{number}/cancel"))
    assert body["status"] == "cancelled"
    # The other server hears of it when it next tells that it is at work.
    assert await storage.responses.beat({number}) == {number}
    events = response_events((await listener).content)
    assert [short(event) for event in events] == ["created", "in_progress", "incomplete"]
    await storage.database.close()


async def test_it_stops_when_another_server_cancels_it(
    ranch: Ranch,
    client: httpx.AsyncClient,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.api.responses.background._BEAT_S", 0.02)
    ranch.play(HALF, 30.0)
    number = await begun(client)
    await until(lambda: ranch.requests)
    other = Storage(database_url)
    assert await other.responses.end("", number, {"status": "cancelled"}) is True
    await until(lambda: ranch.aborted)
    assert (await ended(client, number))["status"] == "cancelled"
    await other.database.close()


async def test_it_goes_into_its_conversation(client: httpx.AsyncClient) -> None:
    conversation = (await client.post("/v1/conversations", json={})).json()["id"]
    await ended(client, await begun(client, conversation=conversation))
    items = (await client.get(f"/v1/conversations/{conversation}/items?order=asc")).json()["data"]
    assert [item["content"][0]["text"] for item in settled(items)] == ["Hi", "Hello"]
