"""Chromium, and a server for each test."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from scripts import chromium
from server.web import STATIC
from tests.support.ranch import Ranch, listening, write_tiny_model
from tests.support.web import why_no_page

HERE = Path(__file__).parent
Profiles = Callable[..., Any]

if importlib.util.find_spec("playwright") is not None:
    from playwright.async_api import async_playwright, expect

    from tests.browser.support import MODELS, Chat, chat_in

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext


def missing() -> str | None:
    """Why these tests cannot run here."""
    return chromium.MISSING if chromium.find() is None else why_no_page() or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # One event loop for all: the browser belongs to it.
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if reason := missing():
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser, None]:
    expect.set_options(timeout=20_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**chromium.launch_options())
        yield browser
        await browser.close()


@pytest.fixture
def options() -> dict[str, Any]:
    """Of the server; a test module may have its own."""
    return {}


@pytest.fixture
def models() -> tuple[Mapping[str, Any], ...]:
    """Of the registry; a test module may have its own."""
    return MODELS


@pytest.fixture
def make_ranch(
    tmp_path: Path, options: dict[str, Any], models: tuple[Mapping[str, Any], ...]
) -> Callable[[], Ranch]:
    """Makes the same server once more: with the same models and the same database."""
    defaults = {
        "page_folder": STATIC,
        "database_url": f"sqlite:///{tmp_path / 'corral.db'}",
    }
    model = write_tiny_model(tmp_path / "tiny")
    return lambda: Ranch(model, tmp_path / "cache", models, **(defaults | options))


@pytest.fixture
def ranch(make_ranch: Callable[[], Ranch]) -> Ranch:
    return make_ranch()


@pytest_asyncio.fixture(loop_scope="session")
async def url(ranch: Ranch) -> AsyncGenerator[str, None]:
    async with listening(ranch) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def profile(browser: Browser, url: str) -> AsyncGenerator[Profiles, None]:
    """Makes pages of profiles of their own; at the end none may have complained."""
    async with AsyncExitStack() as stack:
        made: list[Chat] = []

        async def make(address: str = url, **settings: Any) -> Chat:
            wanted: dict[str, Any] = {"locale": "en-US", "viewport": {"width": 1280, "height": 800}}
            context: BrowserContext = await browser.new_context(**(wanted | settings))
            stack.push_async_callback(context.close)
            chat = await chat_in(context, address)
            made.append(chat)
            return chat

        yield make
        complaints = [error for chat in made for error in chat.errors]
        assert complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def chat(profile: Profiles) -> Chat:
    """The page, open."""
    chat: Chat = await profile()
    await chat.open()
    return chat
