"""What people are told when something does not work, and how it goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from server.engines.base import Delta
from server.errors import EngineDied, Overloaded
from tests.browser.conftest import Profiles
from tests.browser.support import Chat, echo, expect, words
from tests.support.ranch import Ranch, until


@asynccontextmanager
async def serving(ranch: Ranch, port: int) -> AsyncGenerator[None, None]:
    """The server on a given port; its connections are cut at the end."""
    config = uvicorn.Config(
        ranch.app, port=port, log_level="critical", access_log=False, timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = True
        await task


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class TestWithoutModels:
    @pytest.fixture
    def models(self) -> tuple[Mapping[str, Any], ...]:
        return ({"id": "vectors", "kind": "embedding", "load": "on_demand"},)

    async def test_that_is_said_and_nothing_can_be_asked(self, chat: Chat) -> None:
        await expect(chat.page.get_by_text("This server has no model that chats.")).to_be_visible()
        await expect(chat.button("Model: No model")).to_be_visible()
        await chat.write("Hello?")
        await expect(chat.mine).to_have_count(0)
        await expect(chat.box).to_have_value("Hello?")


async def test_a_busy_server_is_named_and_asked_again(chat: Chat, ranch: Ranch) -> None:
    ranch.play(Overloaded(512, retry_after=1.0))
    await chat.write("Hi")
    alert = chat.answers.get_by_role("alert")
    await expect(alert).to_contain_text("The server is busy.")
    ranch.play(*words("Here I am."))
    await chat.button("Try again").click()
    await expect(chat.said).to_have_text("Here I am.")
    await expect(alert).to_have_count(0)
    # The failed one said nothing, so it is no version.
    await expect(chat.answers.get_by_role("group", name="Versions")).to_have_count(0)


async def test_an_engine_that_dies_leaves_what_was_said(chat: Chat, ranch: Ranch) -> None:
    ranch.play(Delta(0, "Half of", [10]), 0.05, EngineDied("It was killed."))
    await chat.write("Hi")
    await expect(chat.answers.get_by_role("alert")).to_contain_text("engine ended unexpectedly")
    await expect(chat.said).to_have_text("Half of")
    await chat.page.reload()
    await expect(chat.answers.get_by_role("alert")).to_contain_text("engine ended unexpectedly")
    ranch.play(*words("All of it."))
    await chat.button("Try again").click()
    await expect(chat.said).to_have_text("All of it.")
    await expect(chat.answers.get_by_role("group", name="Versions")).to_contain_text("2/2")


async def test_a_conversation_that_is_too_long_says_so(chat: Chat, ranch: Ranch) -> None:
    await chat.write("word " * 2000)
    await expect(chat.answers.get_by_role("alert")).to_contain_text("too long for this model")


async def test_a_model_that_must_load_first_tells_how_it_goes(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await expect(chat.button("Model: shepherd")).to_be_visible()
    await until(lambda: len(ranch.engines) == 1)
    ranch.gate.clear()
    await chat.button("Model: shepherd").click()
    item = chat.page.get_by_role("menuitemradio", name="sleeper")
    await expect(item).to_contain_text("not loaded")
    await item.click()
    await chat.write("Wake up")
    bar = chat.answers.get_by_role("progressbar", name="The model is being loaded")
    await expect(bar).to_be_visible()
    await expect(chat.answers).to_contain_text("loading the model")
    await expect(chat.page.get_by_role("button", name="Model: sleeper")).to_contain_text("loading")
    ranch.gate.set()
    await expect(chat.said).to_have_text("Answer 1.")
    await expect(bar).to_have_count(0)


async def test_a_load_can_be_waited_for_no_longer(chat: Chat, ranch: Ranch) -> None:
    await until(lambda: len(ranch.engines) == 1)
    ranch.gate.clear()
    await chat.button("Model: shepherd").click()
    await chat.page.get_by_role("menuitemradio", name="sleeper").click()
    await chat.write("Wake up")
    await expect(chat.answers.get_by_role("progressbar")).to_be_visible()
    await chat.button("Stop").click()
    await chat.ended()
    await expect(chat.answers).to_contain_text("Stopped")
    ranch.gate.set()


async def test_a_server_that_is_started_again(
    profile: Profiles, make_ranch: Callable[[], Ranch]
) -> None:
    port = free_port()
    ranch = make_ranch()
    chat: Chat = await profile(f"http://127.0.0.1:{port}")
    banner = chat.page.get_by_text("The server cannot be reached. Trying again…")
    async with serving(ranch, port):
        await chat.open()
        echo(ranch)
        await chat.ask("Before", "Answer 1.")
        ranch.play_after(asyncio.Event(), [Delta(0, "Half", [10])], 0.05)
        await chat.write("Go on")
        await expect(chat.said.last).to_have_text("Half")
    await expect(chat.answers.last.get_by_role("alert")).to_be_visible()
    await expect(banner).to_be_visible()
    await expect(chat.said.last).to_have_text("Half")
    # What cannot be sent is not lost.
    await chat.write("Are you there?")
    await expect(chat.box).to_have_value("Are you there?")
    ranch = make_ranch()
    echo(ranch)
    async with serving(ranch, port):
        await expect(banner).to_have_count(0)
        await chat.box.press("Enter")
        await expect(chat.said.last).to_have_text("Answer 1.")
        await chat.ended()
        await chat.page.reload()
        await expect(chat.mine).to_have_text(["Before", "Go on", "Are you there?"])
    chat.errors.clear()  # the browser's own lines for connections that were refused


async def test_a_machine_without_a_network(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("Before", "Answer 1.")
    await chat.page.context.set_offline(True)
    await chat.write("Hello?")
    await expect(
        chat.page.get_by_text("The server cannot be reached. Trying again…")
    ).to_be_visible()
    await expect(chat.box).to_have_value("Hello?")
    await expect(chat.mine).to_have_text(["Before"])
    await chat.page.context.set_offline(False)
    await expect(
        chat.page.get_by_text("The server cannot be reached. Trying again…")
    ).to_have_count(0)
    await chat.box.press("Enter")
    await expect(chat.said.last).to_have_text("Answer 2.")
    chat.errors.clear()


class TestAShortMemory:
    @pytest.fixture
    def models(self) -> tuple[Mapping[str, Any], ...]:
        context = {"length": 128, "overflow": "drop_oldest"}
        return ({"id": "forgetful", "template": "chatml", "context": context},)

    async def test_what_was_left_out_is_said(self, chat: Chat, ranch: Ranch) -> None:
        echo(ranch)
        await chat.ask("One " * 8, "Answer 1.")
        dropped = chat.answers.last.get_by_text("did not fit and were left out.")
        await expect(dropped).to_have_count(0)
        await chat.ask("Two " * 8, "Answer 2.")
        await chat.ask("Three " * 8, "Answer 3.")
        await expect(dropped).to_be_visible()
        await chat.page.reload()
        await expect(dropped).to_be_visible()
