"""What a stream says while its model is being loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from server.api import event_stream
from tests.support.ranch import Ranch, chat, events, in_process, write_tiny_model

ONE = [{"id": "tiny", "template": "chatml", "load": "on_demand"}]


@pytest.fixture
def ranch(tmp_path: Path) -> Ranch:
    ranch = Ranch(write_tiny_model(tmp_path / "model"), tmp_path / "cache", ONE)
    ranch.gate.clear()
    return ranch


async def ask(ranch: Ranch, client: httpx.AsyncClient, url: str, body: object) -> str:
    async def open_the_gate() -> None:
        await asyncio.sleep(1.5)
        ranch.gate.set()

    answer, _ = await asyncio.gather(client.post(url, json=body), open_the_gate())
    assert answer.status_code == 200
    return answer.text


async def test_events_for_those_who_ask(ranch: Ranch) -> None:
    body = chat(stream=True, stream_options={"include_progress": True})
    async with in_process(ranch) as client:
        text = await ask(ranch, client, "/v1/chat/completions", body)
    first, *others = text.split("\n\n")
    assert first == (
        'event: corral.progress\ndata: {"object":"corral.progress","model":"tiny",'
        '"status":"loading","detail":"loading the model","waiting":1}'
    )
    # No event more: nothing changed until the answer began.
    assert "corral.progress" not in "".join(others)
    chunks = events("\n\n".join(others).encode())
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1] == "[DONE]"


async def test_text_completions_too(ranch: Ranch) -> None:
    body = {"model": "tiny", "prompt": "a", "stream": True}
    async with in_process(ranch) as client:
        text = await ask(
            ranch,
            client,
            "/v1/completions",
            body | {"stream_options": {"include_progress": True}},
        )
    assert text.startswith("event: corral.progress\n")
    assert text.endswith("data: [DONE]\n\n")


async def test_a_comment_for_everybody_else(ranch: Ranch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.4)
    async with in_process(ranch) as client:
        text = await ask(ranch, client, "/v1/chat/completions", chat(stream=True))
    assert text.startswith(": tiny: loading (loading the model)\n\n")
    assert "corral.progress" not in text


async def test_who_asks_for_events_still_gets_the_status_of_a_refusal(ranch: Ranch) -> None:
    body = chat(stream=True, stream_options={"include_progress": True}, model="nobody")
    async with in_process(ranch) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 404
