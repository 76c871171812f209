"""Several models on one machine with real engines: swapped, killed, stopped, healed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from openai import AsyncOpenAI

from server.engines.memory import Meter
from tests.e2e.harness import CAPITAL, PARIS, Server, a_server, until

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

REGISTRY = Path(__file__).with_name("herd_registry.yaml")
BUDGET = 2600 << 20
MODELS = ("alder", "birch", "cedar")
# max_wait, drain and a load, each for two others and for oneself, on a busy machine.
LONGEST_WAIT_S = 300.0


@pytest.fixture(scope="module")
def herd() -> Iterator[Server]:
    with a_server("--registry", str(REGISTRY)) as server:
        server.until(
            lambda: [server.status(name) for name in MODELS[:2]] == ["ready"] * 2,
            "the first two models",
            300,
        )
        yield server


def sdk(server: Server) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=server.url + "/v1", api_key="none", timeout=LONGEST_WAIT_S, max_retries=0
    )


@pytest.fixture
def held(herd: Server) -> Iterator[Callable[[], list[int]]]:
    """Samples what all engines hold of the memory, five times a second."""
    meter, samples, over = Meter(), [], threading.Event()

    def sample() -> None:
        while not over.wait(0.2):
            samples.append(meter.used(engine.pid for engine in herd.engines()))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: samples
    finally:
        over.set()
        thread.join()


async def test_three_models_share_the_room_of_two(
    herd: Server, held: Callable[[], list[int]]
) -> None:
    choose = random.Random(7)
    waits: list[float] = []

    async def client(requests: int) -> None:
        async with sdk(herd) as openai:
            for _ in range(requests):
                model, began = choose.choice(MODELS), time.monotonic()
                answer = await openai.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": CAPITAL}],
                    temperature=0,
                    max_tokens=16,
                )
                assert (answer.model, answer.choices[0].message.content) == (model, PARIS)
                waits.append(time.monotonic() - began)

    await asyncio.gather(*(client(6) for _ in range(8)))
    assert len(waits) == 48
    assert max(waits) < LONGEST_WAIT_S
    assert max(held()) <= BUDGET
    assert herd.output().count("cedar: ready after") >= 1
    assert "memory did not come back" not in herd.output()


@dataclass
class Story:
    """What one stream told."""

    text: str = ""
    tokens: int = 0
    finish: str | None = None
    done: bool = False
    errors: list[str] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)


async def listen(server: Server, model: str, story: Story, tokens: int) -> Story:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Tell me a story about a fox."}],
        "temperature": 0,
        "max_tokens": tokens,
        "min_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    url = server.url + "/v1/chat/completions"
    async with (
        httpx.AsyncClient(timeout=LONGEST_WAIT_S) as http,
        http.stream("POST", url, json=body) as response,
    ):
        if response.status_code != 200:
            story.errors.append(json.loads(await response.aread())["error"]["code"])
            story.first.set()
            return story
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                take(story, line.removeprefix("data: "))
    return story


def take(story: Story, data: str) -> None:
    assert not story.done, "something follows [DONE]"
    assert not story.errors, "something follows an error"
    if data == "[DONE]":
        story.done = True
        return
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        story.errors.append(event["error"]["code"])
        return
    if event["usage"]:
        story.tokens = event["usage"]["completion_tokens"]
    for choice in event["choices"]:
        story.text += choice["delta"].get("content") or ""
        story.finish = choice["finish_reason"] or story.finish
    if story.text:
        story.first.set()


async def both_loaded(server: Server) -> None:
    """Have the first two models loaded, and not the third."""
    async with sdk(server) as openai, httpx.AsyncClient(timeout=LONGEST_WAIT_S) as http:
        unloaded = await http.post(server.url + "/admin/models/cedar/unload", json={})
        assert unloaded.is_success, unloaded.text
        for model in MODELS[:2]:
            await openai.completions.create(model=model, prompt="a", max_tokens=1)
    assert [server.status(name) for name in MODELS] == ["ready", "ready", "unloaded"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", ["alder", "birch"])
async def test_an_engine_that_dies_or_hangs_hurts_nobody_else(
    herd: Server, victim: str, number: signal.Signals
) -> None:
    other = "birch" if victim == "alder" else "alder"
    await both_loaded(herd)
    engine = herd.engine_of(victim)
    stories = {victim: [Story() for _ in range(16)], other: [Story() for _ in range(8)]}
    listening = [
        asyncio.create_task(listen(herd, model, story, 160))
        for model in stories
        for story in stories[model]
    ]
    await asyncio.wait_for(asyncio.gather(*(s.first.wait() for s in stories[victim])), 120)
    began = time.monotonic()
    os.kill(engine.pid, number)
    # These come when it is already lost, and are answered by its successor.
    late = [Story(), Story()]
    listening += [asyncio.create_task(listen(herd, victim, story, 8)) for story in late]
    await asyncio.gather(*listening)
    print(f"{victim}, {number.name}: whole again after {time.monotonic() - began:.1f} s")  # noqa: T201

    for story in stories[victim]:
        assert (story.errors, story.done, story.finish) == (["engine_died"], False, None)
        assert story.text
    for story, tokens in [*((story, 160) for story in stories[other]), *((s, 8) for s in late)]:
        assert (story.errors, story.done, story.finish) == ([], True, "length")
        assert story.tokens == tokens
    assert herd.engine_of(victim).pid != engine.pid
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


async def test_an_engine_that_dies_idle_is_back_before_anybody_asks(herd: Server) -> None:
    async with sdk(herd) as openai:
        await openai.completions.create(model="alder", prompt="a", max_tokens=1)
    engine = herd.engine_of("alder")
    engine.kill()
    until(lambda: herd.status("alder") != "ready", "the loss to be noticed", 30)
    until(lambda: herd.status("alder") == "ready", "another engine", 120)
    assert herd.engine_of("alder").pid != engine.pid


async def test_a_busy_model_makes_room_in_the_end(herd: Server) -> None:
    await both_loaded(herd)
    async with sdk(herd) as openai:
        stories = {model: Story() for model in MODELS[:2]}
        # Half a minute of work and more: they outlast 4 s of waiting and 5 s of draining.
        listening = [
            asyncio.create_task(listen(herd, model, story, 1000))
            for model, story in stories.items()
        ]
        await asyncio.wait_for(asyncio.gather(*(s.first.wait() for s in stories.values())), 120)
        answer = await openai.chat.completions.create(
            model="cedar",
            messages=[{"role": "user", "content": CAPITAL}],
            temperature=0,
            max_tokens=16,
        )
        assert answer.choices[0].message.content == PARIS
        evicted = [story for story in stories.values() if story.errors]
        assert [story.errors for story in evicted] == [["model_evicted"]]
        assert not evicted[0].done
        await asyncio.gather(*listening)
    (other,) = (story for story in stories.values() if not story.errors)
    assert (other.done, other.finish) == (True, "length")
