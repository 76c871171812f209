"""Engines that fail, load, or are full: the right status, or one error event and no [DONE]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from server.api import event_stream
from server.engines.base import Delta, GenerationRequest
from server.engines.eviction import SwapPolicy
from server.engines.scripted import Step
from server.errors import EngineDied, GenerationFailed, InvalidRequest, Overloaded
from server.generation import weights as model_files
from tests.support.ranch import Ranch, chat, error, events, hello, in_process, until

URL = "/v1/chat/completions"
STREAM = pytest.mark.parametrize("stream", [False, True])
GOOD = Delta(0, "Hello", [1], "stop")
FAILURES = [
    (GenerationFailed("bad luck"), 500, "server_error", "generation_failed", None),
    (EngineDied("it died"), 503, "server_error", "engine_died", "1"),
    (Overloaded("full", retry_after=0.2), 429, "rate_limit_error", "server_overloaded", "1"),
    (InvalidRequest("no", param="x"), 400, "invalid_request_error", None, None),
    (ZeroDivisionError("secret"), 500, "server_error", None, None),
]


def expected(failure: Exception, kind: str, code: str | None) -> dict[str, Any]:
    secret = isinstance(failure, ZeroDivisionError)
    message = "The server had an internal error." if secret else str(failure)
    return error(message, kind=kind, code=code, param=getattr(failure, "param", None))


@STREAM
@pytest.mark.parametrize(("failure", "status", "kind", "code", "retry"), FAILURES)
async def test_a_failure_before_the_first_delta_has_a_status(
    failure: Exception,
    status: int,
    kind: str,
    code: str | None,
    retry: str | None,
    stream: bool,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    ranch.play(0.01, failure)
    answer = await client.post(URL, json=chat(stream=stream))
    assert answer.status_code == status
    assert answer.json() == expected(failure, kind, code)
    assert answer.headers.get("retry-after") == retry
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("failure", "status", "kind", "code", "retry"), FAILURES)
async def test_a_failure_after_it_is_one_event_and_no_done(
    failure: Exception,
    status: int,
    kind: str,
    code: str | None,
    retry: str | None,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    ranch.play(Delta(0, "Hel", [1]), failure)
    options = {"include_usage": True}
    with capture_logs() as logs:
        answer = await client.post(URL, json=chat(stream=True, stream_options=options))
    assert answer.status_code == 200
    _role, text, last = events(answer.content)
    assert text["choices"][0]["delta"] == {"content": "Hel"}
    assert last == expected(failure, kind, code)
    assert answer.content.endswith(b"}\n\n")
    failed = [entry for entry in logs if entry["event"] == "stream failed"]
    assert [entry["status"] for entry in failed] == [status]


@STREAM
async def test_an_aborted_answer_is_no_answer(
    stream: bool, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "Hel", [1], "abort"))
    answer = await client.post(URL, json=chat(stream=stream))
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == (
        "The request was aborted because the engine is stopping."
    )


async def test_a_dead_engine_is_loaded_again(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(EngineDied("it died"))
    assert (await client.post(URL, json=chat())).status_code == 503
    health = (await client.get("/health")).json()["models"]
    assert health["tiny"] == "restarting"
    ranch.script = hello
    assert (await client.post(URL, json=chat())).status_code == 200
    engines = [e for e, s in zip(ranch.engines, ranch.specs, strict=True) if s.name == "tiny"]
    assert [engine.alive for engine in engines] == [False, False, True]


def dying_once(*before: Step) -> Callable[[GenerationRequest], list[Step]]:
    """A script whose engine dies under its first request, after some steps."""
    seen: list[GenerationRequest] = []

    def script(request: GenerationRequest) -> list[Step]:
        seen.append(request)
        return [*before, EngineDied("it died")] if len(seen) == 1 else hello(request)

    return script


@STREAM
async def test_an_answer_of_which_nothing_was_seen_is_begun_once_more(
    stream: bool, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    # Of a whole answer nothing is seen before its end.
    ranch.script = dying_once(*([] if stream else [Delta(0, "Hal", [9])]))
    answer = await client.post(URL, json=chat(stream=stream, n=1))
    assert answer.status_code == 200
    if stream:
        texts = [
            event["choices"][0]["delta"].get("content") for event in events(answer.content)[:-1]
        ]
        assert "".join(filter(None, texts)) == "Hello"
        assert events(answer.content)[-1] == "[DONE]"
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
        assert answer.json()["usage"]["completion_tokens"] == 3
    first, second = ranch.requests
    assert first.prompt_token_ids == second.prompt_token_ids


async def test_an_answer_of_which_something_was_seen_is_not(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.script = dying_once(Delta(0, "Hal", [9]))
    answer = await client.post(URL, json=chat(stream=True))
    assert events(answer.content)[-1] == error("it died", kind="server_error", code="engine_died")
    assert len(ranch.requests) == 1


async def test_a_model_that_makes_room_under_a_request(make_ranch: Callable[..., Ranch]) -> None:
    models = [{"id": name, "template": "chatml", "load": "on_demand"} for name in ("one", "two")]
    models[1]["engine"] = {"threads": 1}
    ranch = make_ranch(models, budget=3)
    ranch.pool.policy = SwapPolicy(max_wait=0, min_residency=0, drain=0)
    ranch.script = lambda request: [Delta(0, "Hel", [1]), 30.0]
    async with in_process(ranch) as client:
        long = asyncio.create_task(client.post(URL, json=chat("one", stream=True)))
        await until(lambda: ranch.requests)
        ranch.script = hello
        assert (await client.post(URL, json=chat("two"))).status_code == 200
        answer = await long
    assert events(answer.content)[-1] == error(
        "The model 'one' had to make room for another one before this answer was whole. "
        "Send it again.",
        kind="service_unavailable_error",
        code="model_evicted",
    )


@STREAM
async def test_a_model_that_cannot_be_loaded(
    stream: bool, make_ranch: Callable[..., Ranch]
) -> None:
    ranch = make_ranch([{"id": "broken", "template": "chatml"}])
    ranch.load_error = EngineDied("'broken' could not be loaded: no memory")
    async with in_process(ranch) as client:
        for _ in range(3):
            answer = await client.post(URL, json=chat("broken", stream=stream))
            assert answer.status_code == 503
            assert answer.json() == error(
                "'broken' could not be loaded: no memory",
                kind="service_unavailable_error",
                code="model_failed",
            )
            assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert len(ranch.engines) == 1, "a broken model is not loaded for every request"
        ranch.later = 11
        ranch.load_error = None
        assert (await client.post(URL, json=chat("broken"))).status_code == 200


async def test_files_that_are_missing(
    make_ranch: Callable[..., Ranch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {"source": {"directory": str(tmp_path / "gone")}, "load": "on_demand"}
    ranch = make_ranch([{"id": "lost", "template": "chatml"} | missing])
    tries = 0
    prepare = ranch.herd._models["lost"]._weights._prepare

    def counted() -> Any:
        nonlocal tries
        tries += 1
        return prepare()

    monkeypatch.setattr(ranch.herd._models["lost"]._weights, "_prepare", counted)
    async with in_process(ranch) as client:
        for path in (URL, URL + "/render"):
            answer = await client.post(path, json=chat("lost"))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
            assert answer.json()["error"]["code"] == "model_failed"
            assert answer.json()["error"]["message"] == (
                f"The model folder {tmp_path / 'gone'} does not exist."
            )
        assert tries == 1
        monkeypatch.setattr(model_files.time, "monotonic", lambda: 1e12)
        await client.post(URL, json=chat("lost"))
        assert tries == 2


async def test_a_context_longer_than_the_models(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch([{"id": "long", "template": "chatml", "context": {"length": 4096}}])
    async with in_process(ranch) as client:
        answer = await client.post(URL, json=chat("long"))
        assert answer.status_code == 503
        assert "context.length is 4096" in answer.json()["error"]["message"]


@STREAM
async def test_a_request_waits_for_its_model(
    stream: bool, make_ranch: Callable[..., Ranch]
) -> None:
    ranch = make_ranch()
    ranch.gate.clear()
    async with in_process(ranch) as client:
        calls = [asyncio.create_task(client.post(URL, json=chat(stream=stream))) for _ in "12345"]
        done, _ = await asyncio.wait(calls, timeout=0.1)
        assert not done
        ranch.gate.set()
        assert [(await call).status_code for call in calls] == [200] * 5
    assert len([spec for spec in ranch.specs if spec.name == "tiny"]) == 1


async def test_a_request_does_not_wait_for_ever(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(load_wait_seconds=0.05)
    ranch.gate.clear()
    async with in_process(ranch) as client:
        await until(lambda: ranch.engines)  # its files are there
        answer = await client.post(URL, json=chat())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json() == error(
            "The model 'tiny' is still loading (loading the model). Try again shortly.",
            kind="service_unavailable_error",
            code="model_loading",
        )
        ranch.gate.set()
        await until(lambda: ranch.herd.resolve("tiny").engines.state.status == "ready")
        assert (await client.post(URL, json=chat())).status_code == 200


async def test_nor_for_its_files(
    make_ranch: Callable[..., Ranch], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranch = make_ranch([{"id": "later", "load": "on_demand"}], load_wait_seconds=0.05)
    weights = ranch.herd._models["later"]._weights
    prepare = weights._prepare
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    tries = 0

    def slow() -> Any:
        nonlocal tries
        tries += 1
        asyncio.run_coroutine_threadsafe(done.wait(), loop).result()
        return prepare()

    monkeypatch.setattr(weights, "_prepare", slow)
    async with in_process(ranch) as client:
        request = {"model": "later", "prompt": "x"}
        for _ in range(2):
            answer = await client.post("/v1/completions", json=request)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
        done.set()
        await until(lambda: weights._files is not None)
        assert (await client.post("/v1/completions", json=request)).status_code == 200
    assert tries == 1, "who stops waiting does not stop the download"


async def test_a_full_server(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(max_running=2)
    event = asyncio.Event()
    ranch.play_after(event, [], GOOD)
    async with in_process(ranch) as client:
        running = [
            asyncio.create_task(client.post(URL, json=chat(stream=s))) for s in (False, True)
        ]
        await until(lambda: len(ranch.requests) == 2)
        for stream in (False, True):
            answer = await client.post(URL, json=chat(stream=stream))
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert answer.json() == error(
                "The server is handling 2 requests, which is its limit. Retry after a moment.",
                kind="rate_limit_error",
                code="server_overloaded",
            )
        event.set()
        assert [(await task).status_code for task in running] == [200, 200]
        assert (await client.post(URL, json=chat())).status_code == 200


async def test_stopping_while_a_model_loads(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch([{"id": "slow", "template": "chatml"}])
    ranch.gate.clear()
    async with in_process(ranch) as client:
        waiting = asyncio.create_task(client.post(URL, json=chat("slow")))
        await until(lambda: ranch.engines)
        await asyncio.sleep(0.05)
        await ranch.herd.close()
        answer = await waiting
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, None)
        assert "because the server is stopping" in answer.json()["error"]["message"]
        again = await client.post(URL, json=chat("slow"))
        assert again.status_code == 503
    assert len(ranch.engines) == 1


async def test_a_long_wait_begins_the_stream_with_comments(
    make_ranch: Callable[..., Ranch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.05)
    ranch = make_ranch()
    ranch.gate.clear()
    async with in_process(ranch) as client:
        call = asyncio.create_task(client.post(URL, json=chat(stream=True)))
        await until(lambda: ranch.herd.resolve("tiny").engines.state.waiting)
        await asyncio.sleep(0.3)
        ranch.gate.set()
        answer = await call
    assert answer.content.startswith(2 * b": tiny: loading (loading the model)\n\n")
    assert answer.content.endswith(b"data: [DONE]\n\n")
