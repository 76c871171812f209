"""The herd as its operators see it."""

from __future__ import annotations

from typing import Any

import pytest

from server.api.admin.options import AdminOptions
from server.engines.base import Delta
from tests.browser.support import Chat, Locator, echo, expect
from tests.support.ranch import Ranch, until


def card(chat: Chat, name: str) -> Locator:
    return chat.page.locator("section.card").filter(has=chat.page.get_by_role("heading", name=name))


class TestOpen:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"admin": AdminOptions(local=True)}

    async def test_engines_are_loaded_and_unloaded(self, chat: Chat, ranch: Ranch) -> None:
        await chat.page.get_by_role("link", name="Herd").click()
        shepherd, sleeper = card(chat, "shepherd"), card(chat, "sleeper")
        await expect(shepherd).to_contain_text("ready")
        await expect(shepherd).to_contain_text("shepherd-raw")
        await expect(sleeper).to_contain_text("not loaded")
        await expect(chat.page.locator(".device")).to_contain_text("RAM")
        ranch.gate.clear()
        await sleeper.get_by_role("button", name="Load").click()
        await expect(sleeper).to_contain_text("loading")
        await expect(sleeper.get_by_role("progressbar")).to_be_visible()
        ranch.gate.set()
        await expect(sleeper).to_contain_text("ready")
        await sleeper.get_by_role("button", name="Pin").click()
        await expect(sleeper.get_by_role("button", name="Unpin")).to_be_visible()
        await sleeper.get_by_role("button", name="Unload").click()
        await expect(sleeper).to_contain_text("not loaded")
        assert not ranch.engines[-1].alive

    async def test_what_runs_is_seen_and_not_ended_by_mistake(
        self, chat: Chat, ranch: Ranch
    ) -> None:
        ranch.script = lambda _: [Delta(0, "Once", [10]), 30.0]
        await chat.write("Go")
        await expect(chat.said).to_have_text("Once")
        await chat.page.get_by_role("link", name="Herd").click()
        running = card(chat, "shepherd").locator("dl div").filter(has_text="Running")
        await expect(running).to_contain_text("1")
        await card(chat, "shepherd").get_by_role("button", name="Unload").click()
        dialog = chat.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("1 request is under way.")
        await dialog.get_by_role("button", name="Cancel").click()
        assert ranch.engines[0].alive
        # The answer went on meanwhile, and is there when one comes back.
        await chat.chats.first.click()
        await expect(chat.said).to_have_text("Once")
        await chat.button("Stop").click()
        await until(lambda: len(ranch.aborted) == 1)


class TestWithKeys:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"admin": AdminOptions(keys=["ak-admin-key-0001"])}

    async def test_the_admin_key_is_asked_for(self, chat: Chat) -> None:
        addresses: list[str] = []
        chat.page.on("request", lambda request: addresses.append(request.url))
        await chat.open("/herd")
        # Models are seen all the same.
        await expect(chat.page.locator(".plain li")).to_have_count(3)
        key = chat.page.get_by_label("Admin key")
        await key.fill("wrong")
        await chat.button("Sign in").click()
        await expect(chat.page.get_by_text("The server does not know this key.")).to_be_visible()
        await key.fill("ak-admin-key-0001")
        await chat.button("Sign in").click()
        await expect(card(chat, "shepherd")).to_contain_text("ready")
        assert not any("ak-" in address for address in addresses)


async def test_a_closed_admin_api_leaves_a_list(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.open("/herd")
    await expect(chat.page.get_by_text("The admin API is closed on this server")).to_be_visible()
    await expect(chat.page.locator(".plain li").first).to_contain_text("shepherd")
    await expect(chat.page.locator(".plain li").first).to_contain_text("ready")
