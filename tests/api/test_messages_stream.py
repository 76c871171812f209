"""Streams of the Messages API: the exact bytes, the order of blocks, failures."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from server.api import event_stream
from server.engines.base import Delta
from server.errors import CorralError, EngineDied, GenerationFailed, ModelLoading, Overloaded
from tests.support.messages import URL, WEATHER, ask, events, refusal
from tests.support.ranch import Ranch, in_process, listening, normalised, until

EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
OPENING = (
    "event: message_start\n"
    'data: {"type":"message_start","message":{"id":"msg_ID","type":"message","role":"assistant",'
    '"model":"tiny","content":[],"stop_reason":null,"stop_sequence":null,"usage":'
    '{"input_tokens":17,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,'
    '"output_tokens":0}}}\n\n'
)
PING = 'event: ping\ndata: {"type":"ping"}\n\n'
STOP = 'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def end(reason: str, tokens: int, sequence: str = "null", *, prompt: int = 17) -> str:
    return (
        "event: message_delta\n"
        f'data: {{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":'
        f'{sequence}}},"usage":{{"input_tokens":{prompt},"cache_creation_input_tokens":0,'
        f'"cache_read_input_tokens":{21 - prompt},"output_tokens":{tokens}}}}}\n\n'
    )


def said(text: str) -> str:
    return (
        "event: content_block_delta\n"
        'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
        f'"{text}"}}}}\n\n'
    )


async def test_a_stream(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=ask(stream=True))
    assert answer.status_code == 200
    assert normalised(answer.content) == (
        OPENING + "event: content_block_start\n"
        'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
        "\n\n" + PING + said("Hel") + said("lo") + "event: content_block_stop\n"
        'data: {"type":"content_block_stop","index":0}\n\n' + end("end_turn", 3) + STOP
    )
    headers = dict(answer.headers)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["request-id"].startswith("req_")
    assert "content-length" not in headers


async def test_headers_of_a_stream(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=ask(stream=True, odd=1))
    assert answer.headers["x-corral-ignored-fields"] == "odd"


async def test_an_engine_that_says_nothing(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play()
    answer = await client.post(URL, json=ask(stream=True))
    opening = OPENING.replace(":17", ":21").replace(":4,", ":0,")
    assert normalised(answer.content) == opening + end("end_turn", 0, prompt=21) + STOP


async def test_a_stop_sequence(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(Delta(0, "a", [1], cached_tokens=4), Delta(0, "", [2], "stop", stop_reason='"'))
    answer = await client.post(URL, json=ask(stream=True, stop_sequences=['"']))
    assert normalised(answer.content).endswith(end("stop_sequence", 2, '"\\""') + STOP)


STEPS = (
    Delta(0, "?Hm, ", [1]),
    Delta(0, "?yes.", [1]),
    Delta(0, "Let me ", [1]),
    Delta(0, "see.", [1]),
    Delta(0, "!weather ", [1]),
    Delta(0, '+{"city": ', [1]),
    Delta(0, '+"Köln"}', [1]),
    Delta(0, '!weather {"city": "Rom"}', [1]),
    Delta(0, "", [2], "stop"),
)


async def test_blocks_follow_one_another(thinker: Ranch, thinking: httpx.AsyncClient) -> None:
    thinker.play(*STEPS)
    answer = await thinking.post(URL, json=ask("thinker", stream=True, tools=[WEATHER]))
    assert answer.content.count(PING.encode()) == 1
    opening, *blocks, last, stop = events(answer.content)
    assert [opening["type"], stop] == ["message_start", {"type": "message_stop"}]
    assert blocks == [
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        piece(0, {"type": "thinking_delta", "thinking": "Hm, "}),
        piece(0, {"type": "thinking_delta", "thinking": "yes."}),
        closed(0),
        start(1, {"type": "text", "text": ""}),
        piece(1, {"type": "text_delta", "text": "Let me "}),
        piece(1, {"type": "text_delta", "text": "see."}),
        closed(1),
        start(2, {"type": "tool_use", "id": "call_0", "name": "weather", "input": {}}),
        piece(2, {"type": "input_json_delta", "partial_json": '{"city": '}),
        piece(2, {"type": "input_json_delta", "partial_json": '"Köln"}'}),
        closed(2),
        start(3, {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}),
        piece(3, {"type": "input_json_delta", "partial_json": '{"city": "Rom"}'}),
        closed(3),
    ]
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert last["usage"]["output_tokens"] == 9
    assert last["usage"]["output_tokens_details"] == {"thinking_tokens": 2}
    for event in events(answer.content):
        EVENT.validate_python(event, strict=True)


def start(index: int, block: dict[str, str]) -> dict[str, object]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, delta: dict[str, str]) -> dict[str, object]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def closed(index: int) -> dict[str, object]:
    return {"type": "content_block_stop", "index": index}


FAILURES: list[tuple[Exception, int, str, str | None]] = [
    (GenerationFailed("bad luck"), 500, "api_error", None),
    (EngineDied("it died"), 503, "api_error", "1"),
    (Overloaded("full", retry_after=0.2), 429, "rate_limit_error", "1"),
    (ModelLoading("tiny", "wait", retry_after=5), 503, "overloaded_error", "5"),
    (ZeroDivisionError("secret"), 500, "api_error", None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("failure", "status", "kind", "retry"), FAILURES)
async def test_a_failure_before_the_first_delta_has_a_status(
    failure: Exception,
    status: int,
    kind: str,
    retry: str | None,
    stream: bool,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    ranch.play(0.01, failure)
    answer = await client.post(URL, json=ask(stream=stream))
    assert answer.status_code == status
    assert answer.json() == refusal(kind, told(failure), answer.headers["request-id"])
    assert answer.headers.get("retry-after") == retry
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("failure", "status", "kind", "retry"), FAILURES)
async def test_a_failure_after_it_is_one_event_and_no_end(
    failure: Exception,
    status: int,
    kind: str,
    retry: str | None,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    ranch.play(Delta(0, "Hel", [1]), failure)
    with capture_logs() as logs:
        answer = await client.post(URL, json=ask(stream=True))
    assert answer.status_code == 200
    _start, _block, text, last = events(answer.content)
    assert text["delta"] == {"type": "text_delta", "text": "Hel"}
    assert last == refusal(kind, told(failure), answer.headers["request-id"])
    failed = [entry for entry in logs if entry["event"] == "stream failed"]
    assert [entry["status"] for entry in failed] == [status]


def told(failure: Exception) -> str:
    secret = not isinstance(failure, CorralError)
    return "The server had an internal error." if secret else str(failure)


async def test_silence_is_filled_with_pings(ranch: Ranch, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = event_stream.EventStream.__init__
    assert silent.__kwdefaults__ is not None
    monkeypatch.setitem(silent.__kwdefaults__, "keep_alive_seconds", 0.02)
    ranch.play(Delta(0, "a", [1]), 0.1, Delta(0, "b", [1], "stop"))
    async with in_process(ranch) as client:
        answer = await client.post(URL, json=ask(stream=True))
    assert answer.content.count(PING.encode()) >= 3
    assert b": keep-alive" not in answer.content
    deltas = [event["delta"] for event in events(answer.content) if "delta" in event]
    texts = [delta["text"] for delta in deltas if "text" in delta]
    assert texts == ["a", "b"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_aborts_its_request(stream: bool, ranch: Ranch) -> None:
    ranch.play(Delta(0, "Hel", [1]), 30.0)
    async with listening(ranch) as url, httpx.AsyncClient(base_url=url) as client:
        call = asyncio.create_task(client.post(URL, json=ask(stream=stream)))
        await until(lambda: ranch.requests)
        await asyncio.sleep(0.05)
        assert ranch.aborted == []
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: ranch.aborted)
    assert ranch.aborted == [ranch.request.request_id]


@pytest.mark.parametrize("steps", [[Delta(0, "Hel", [1]), 30.0], [30.0]])
async def test_an_answer_that_outlasts_the_server(steps: list[Delta | float], ranch: Ranch) -> None:
    ranch.play(*steps)
    async with httpx.AsyncClient() as client:
        async with listening(ranch) as url:
            body = ask(stream=len(steps) == 2)
            call = asyncio.create_task(client.post(url + URL, json=body))
            await until(lambda: ranch.requests)
            await asyncio.sleep(0.1)
        answer = await call
    message = "The server is stopping and could not finish this answer. Send it again."
    if len(steps) == 1:
        assert answer.status_code == 503
        assert answer.json() == refusal("overloaded_error", message, answer.headers["request-id"])
    else:
        last = events(answer.content)[-1]
        assert last == refusal("overloaded_error", message, last["request_id"])
