"""Responses as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from server.engines.base import Delta, PositionLogprobs, TokenLogprob, ToolCallDelta
from server.errors import EngineDied, StorageFailed
from tests.support.ranch import Ranch, listening, until
from tests.support.stored import URL, Scribe, ask, response_events, settled, short, valid


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    models = (
        {"id": "tiny", "template": "chatml"},
        {"id": "thinker", "template": "chatml", "reasoning_parser": "qwen3"},
    )
    ranch = make_ranch(models, database_url=database_url)
    ranch.format = Scribe()
    return ranch


async def stream(client: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    answer = await client.post(URL, json=ask(stream=True, **fields))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return response_events(answer.content)


async def test_the_events_of_a_text(client: httpx.AsyncClient) -> None:
    events = settled(await stream(client))
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    full = part | {"text": "Hello"}
    message = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant"}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    told = [event for event in events if "response" not in event]
    assert told == [
        {
            "type": "response.output_item.added",
            "sequence_number": 2,
            "output_index": 0,
            "item": message | {"content": []},
        },
        {"type": "response.content_part.added", "sequence_number": 3, **where, "part": part},
        {
            "type": "response.output_text.delta",
            "sequence_number": 4,
            **where,
            "delta": "Hel",
            "logprobs": [],
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 5,
            **where,
            "delta": "lo",
            "logprobs": [],
        },
        {
            "type": "response.output_text.done",
            "sequence_number": 6,
            **where,
            "text": "Hello",
            "logprobs": [],
        },
        {"type": "response.content_part.done", "sequence_number": 7, **where, "part": full},
        {
            "type": "response.output_item.done",
            "sequence_number": 8,
            "output_index": 0,
            "item": message | {"status": "completed", "content": [full]},
        },
    ]
    created, in_progress, completed = (event for event in events if "response" in event)
    assert created == {
        "type": "response.created",
        "sequence_number": 0,
        "response": completed["response"]
        | {"status": "in_progress", "completed_at": None, "usage": None, "output": []},
    }
    assert in_progress == created | {"type": "response.in_progress", "sequence_number": 1}
    assert (completed["type"], completed["sequence_number"]) == ("response.completed", 9)
    assert completed["response"]["output"] == [told[-1]["item"]]
    assert completed["response"]["usage"]["total_tokens"] == 24


async def test_what_was_completed_is_stored(client: httpx.AsyncClient) -> None:
    response = (await stream(client))[-1]["response"]
    assert valid(await client.get(f"{URL}/{response['id']}")) == response


async def test_nothing_is_told_as_complete_before_it_is_stored(
    ranch: Ranch, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StorageFailed("The disk is full.")

    monkeypatch.setattr("server.storage.responses.Responses.add", refuse)
    events = await stream(client)
    assert [event["type"] for event in events][-2:] == [
        "response.output_item.done",
        "response.failed",
    ]
    assert events[-1]["response"]["error"] == {
        "code": "server_error",
        "message": "The disk is full.",
    }
    assert (await stream(client, store=False))[-1]["type"] == "response.completed"
    answer = await client.post(URL, json=ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_failed")


async def test_reasoning_text_and_calls(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(
        Delta(0, "", [1], reasoning="Hm"),
        Delta(0, "I", [2], reasoning="m."),
        Delta(0, " see", [3], tool_calls=(ToolCallDelta(0, "call_a", "f", "{"),)),
        Delta(0, "", [4], tool_calls=(ToolCallDelta(0, arguments="}"), ToolCallDelta(1, "b", "g"))),
        Delta(0, "", [5], tool_calls=(ToolCallDelta(1, arguments="{}"),)),
        Delta(0, "", [], "tool_calls", reasoning_tokens=2),
    )
    events = await stream(client, model="thinker")
    assert [short(event) for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta Hm",
        "reasoning_text.delta m.",
        "reasoning_text.done Hmm.",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta I",
        "output_text.delta  see",
        "output_text.done I see",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta {",
        "function_call_arguments.delta }",
        "function_call_arguments.done {}",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta {}",
        "function_call_arguments.done {}",
        "output_item.done",
        "completed",
    ]
    output = events[-1]["response"]["output"]
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert items == output
    assert [event["output_index"] for event in events if "item" in event] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert [item.get("name") for item in output] == [None, None, "f", "g"]


async def test_reasoning_alone_is_followed_by_an_empty_message(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "", [1], "stop", reasoning="Hm"))
    output = (await stream(client, model="thinker"))[-1]["response"]["output"]
    assert [(item["type"], item["status"]) for item in output] == [
        ("reasoning", "completed"),
        ("message", "completed"),
    ]
    ranch.play(Delta(0, "", [1], "length", reasoning="Hm"))
    output = (await stream(client, model="thinker"))[-1]["response"]["output"]
    assert [(item["type"], item["status"]) for item in output] == [("reasoning", "incomplete")]


async def test_logprobs(ranch: Ranch, client: httpx.AsyncClient) -> None:
    def at(text: str) -> tuple[PositionLogprobs]:
        token = TokenLogprob(67, text, -0.5)
        return (PositionLogprobs(token, (token,)),)

    ranch.play(
        # The engine holds text back where a stop string may begin; its tokens come all the same.
        Delta(0, "", [67], logprobs=at("a")),
        Delta(0, "ab", [67], logprobs=at("b")),
        Delta(0, "", [67], "stop", logprobs=at("c")),
    )
    fields = {"include": ["message.output_text.logprobs"]}
    events = await stream(client, **fields)
    tokens = [
        [entry["token"] for entry in event["logprobs"]] for event in events if "logprobs" in event
    ]
    assert tokens == [["a", "b"], ["a", "b", "c"]]
    part = events[-1]["response"]["output"][0]["content"][0]
    assert [entry["token"] for entry in part["logprobs"]] == ["a", "b", "c"]


async def test_a_late_failure_is_an_event_and_stored(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "Hel", [1]), EngineDied("The engine died."))
    events = await stream(client)
    assert [short(event) for event in events][-2:] == ["output_text.delta Hel", "failed"]
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "The engine died."}
    assert [item["status"] for item in response["output"]] == ["incomplete"]
    assert valid(await client.get(f"{URL}/{response['id']}")) == response


async def test_an_answer_that_was_cut(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, "Hel", [1], "length"))
    last = (await stream(client))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_stored_response_is_replayed(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(
        Delta(0, "", [1], reasoning="Hm"),
        Delta(0, "I", [2]),
        Delta(0, " see", [3]),
        Delta(0, "", [4], "tool_calls", tool_calls=(ToolCallDelta(0, "call_a", "f", "{}"),)),
    )
    response = (await stream(client, model="thinker"))[-1]["response"]
    url = f"{URL}/{response['id']}?stream=true"
    events = response_events((await client.get(url)).content)
    assert [short(event) for event in events if "delta" in event] == [
        "reasoning_text.delta Hm",
        "output_text.delta I see",
        "function_call_arguments.delta {}",
    ]
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"] == response
    rest = (await client.get(f"{url}&starting_after=15")).content
    whole = (await client.get(url)).content
    assert whole.endswith(rest)
    assert b'"sequence_number":16' in rest.split(b"\n\n")[0]
    last = (await client.get(f"{url}&starting_after=500")).content
    assert last.startswith(b"event: response.completed\n")


async def test_a_client_that_leaves_ends_the_response(ranch: Ranch) -> None:
    ranch.play(Delta(0, "Hel", [1]), 30.0)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url) as client:
        for streams in (True, False):
            with pytest.raises(httpx.ReadTimeout):
                await client.post(URL, json=ask(stream=streams), timeout=0.3)
            await until(lambda: len(ranch.aborted) == len(ranch.requests))
        await asyncio.sleep(0)
        assert len(ranch.aborted) == 2
