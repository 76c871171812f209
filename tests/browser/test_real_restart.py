"""The chat page on a real server whose model goes and comes, and which is killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.browser.conftest import Profiles
from tests.browser.real import LLAMAS, UNREACHABLE, endless, exactly, patience
from tests.browser.support import Chat, expect
from tests.e2e.harness import CAPITAL, DIALOGUE, INSTRUCT, PARIS, Server, a_server, kill

__all__ = ["patience"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def serving(port: int, database: Path) -> AsyncGenerator[Server, None]:
    """The server, with its model loaded."""
    kept = f"sqlite:///{database}"
    with a_server("--port", str(port), CORRAL_DATABASE_URL=kept) as server:
        await asyncio.to_thread(server.wait_ready)
        yield server


async def test_a_model_is_unloaded_and_loads_for_a_chat(
    profile: Profiles, port: int, tmp_path: Path
) -> None:
    chat: Chat = await profile()
    async with serving(port, tmp_path / "chats.db"):
        await chat.open("/herd")
        card = chat.page.locator("section.card").filter(has_text=INSTRUCT)
        await expect(card).to_contain_text("ready")
        await expect(card).to_contain_text(DIALOGUE)
        await expect(card).to_contain_text("GB RAM")
        await card.get_by_role("button", name="Unload").click()
        await expect(card).to_contain_text("not loaded")
        await chat.page.get_by_role("link", name="New chat", exact=True).click()
        await exactly(chat)
        await chat.write(CAPITAL)
        await expect(chat.answers.get_by_role("progressbar")).to_be_visible()
        await expect(chat.said).to_have_text(PARIS)
        await chat.ended()
        await chat.page.get_by_role("link", name="Herd").click()
        await expect(card).to_contain_text("ready")


async def test_a_chat_outlives_kill_9(profile: Profiles, port: int, tmp_path: Path) -> None:
    chat: Chat = await profile()
    banner = chat.page.get_by_text(UNREACHABLE)
    async with serving(port, tmp_path / "chats.db") as server:
        await chat.open()
        await endless(chat)
        # What is written for a while is kept while it is written.
        await chat.page.wait_for_timeout(3000)
        begun = (await chat.said.inner_text())[:40]
        kill(server.process)
        await expect(chat.answers.get_by_role("alert")).to_be_visible()
        await expect(banner).to_be_visible()
        await expect(chat.said).to_contain_text(begun)
    async with serving(port, tmp_path / "chats.db"):
        await expect(banner).to_have_count(0)
        await chat.page.reload()
        await expect(chat.mine).to_have_text([LLAMAS])
        await expect(chat.said).to_contain_text(begun)
        await expect(chat.answers).to_contain_text("Cut off")
        await chat.button("Answer again").click()
        await expect(chat.said).to_have_text(re.compile(".{60}"))
        await chat.button("Stop").click()
        await chat.ended()
        await expect(chat.answers.get_by_role("group", name="Versions")).to_contain_text("2/2")
    chat.errors.clear()  # the browser's own lines for connections that were refused
