"""Who sees what, and what text can do to the page: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from server.engines.base import Delta
from tests.browser.conftest import Profiles
from tests.browser.support import ATTACKS, PLACEHOLDER, Chat, echo, expect
from tests.support.ranch import Ranch


async def test_attacks_in_messages_and_answers_stay_text(chat: Chat, ranch: Ranch) -> None:
    text = "\n\n".join(ATTACKS)
    ranch.play(Delta(0, text, [10], finish_reason="stop"))
    await chat.ask(text)
    await chat.page.wait_for_timeout(300)
    for _ in range(2):
        assert await chat.page.evaluate("window.hit") is None
        assert await chat.mine.inner_text() == text
        written = chat.said.last
        await expect(written).to_contain_text("<script>window.hit = 1</script>")
        await expect(written).to_contain_text("{{ constructor.constructor")
        assert await written.locator("script, img, iframe, style, svg[onload]").count() == 0
        assert await written.locator("a[href^='javascript' i]").count() == 0
        # The title, the list and the page's own title hold its first line.
        await expect(chat.chats).to_have_text([ATTACKS[0]])
        await chat.page.reload()
        await expect(chat.said).to_contain_text("window.hit = 1")


async def test_the_policy_lets_nothing_else_in(chat: Chat) -> None:
    answer = await chat.page.request.get(chat.url)
    policy = answer.headers["content-security-policy"]
    for rule in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
    ):
        assert rule in policy
    assert "unsafe" not in policy
    ran = await chat.page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.hit = 1';
        document.body.append(script);
        return window.hit ?? null;
    }""")
    assert ran is None
    assert chat.errors
    chat.errors.clear()


async def test_everything_comes_from_the_server_itself(chat: Chat, ranch: Ranch) -> None:
    ranch.play(
        Delta(
            0,
            "![cat](https://example.com/cat.png) $x$\n\n```js\n1\n```",
            [10],
            finish_reason="stop",
        )
    )
    await chat.ask("Hi")
    await expect(chat.page.locator(".math .katex")).to_have_count(1)
    for path in ("/compare", "/herd", "/settings"):
        await chat.open(path)
        await expect(chat.page.get_by_role("heading", level=1)).to_be_visible()
    assert chat.hosts == {chat.url}


async def test_profiles_see_nothing_of_each_other(profile: Profiles, ranch: Ranch) -> None:
    echo(ranch)
    mine: Chat = await profile()
    await mine.open()
    await mine.ask("My secret", "Answer 1.")
    other: Chat = await profile()
    await other.open()
    await expect(other.page.get_by_text("Your chats will be here.")).to_be_visible()
    await other.page.goto(mine.page.url)
    await expect(other.page.get_by_text("There is no such chat.")).to_be_visible()
    await other.page.get_by_role("searchbox").fill("secret")
    await expect(other.page.get_by_text("Nothing found.")).to_be_visible()
    second = await mine.page.context.new_page()
    await second.goto(mine.page.url)
    await expect(second.locator("article.user .bubble")).to_have_text("My secret")


class TestWithKeys:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"keys": ["sk-first-key-0001", "sk-second-key-002"]}

    async def _sign_in(self, chat: Chat, key: str, *, remember: bool = False) -> None:
        await chat.page.get_by_label("API key").fill(key)
        if remember:
            await chat.page.get_by_label("Remember on this device").check()
        await chat.button("Sign in").click()

    async def test_a_key_opens_the_page_and_is_in_no_address(
        self, chat: Chat, ranch: Ranch
    ) -> None:
        echo(ranch)
        addresses: list[str] = []
        chat.page.on("request", lambda request: addresses.append(request.url))
        await expect(chat.page.get_by_role("heading", name="Open the gate")).to_be_visible()
        await self._sign_in(chat, "sk-wrong")
        await expect(chat.page.get_by_text("The server does not know this key.")).to_be_visible()
        await self._sign_in(chat, "sk-first-key-0001")
        await chat.ask("Hi", "Answer 1.")
        await chat.page.reload()
        await expect(chat.said).to_have_text("Answer 1.")
        assert not any("sk-" in address for address in addresses)
        assert "sk-" not in chat.page.url

    async def test_each_key_has_its_own_chats(self, profile: Profiles, ranch: Ranch) -> None:
        echo(ranch)
        first: Chat = await profile()
        await first.open()
        await self._sign_in(first, "sk-first-key-0001")
        await first.ask("My secret", "Answer 1.")
        await first.page.get_by_role("link", name="Settings").click()
        await first.button("Forget the key").click()
        await self._sign_in(first, "sk-second-key-002")
        await expect(first.page.get_by_text("Your chats will be here.")).to_be_visible()

    async def test_a_key_outlives_the_tab_only_when_that_is_wanted(self, profile: Profiles) -> None:
        chat: Chat = await profile()
        await chat.open()
        await self._sign_in(chat, "sk-first-key-0001")
        await expect(chat.page.get_by_placeholder(PLACEHOLDER)).to_be_visible()
        other = await chat.page.context.new_page()
        await other.goto(chat.url)
        await expect(other.get_by_role("heading", name="Open the gate")).to_be_visible()
        await other.get_by_label("API key").fill("sk-first-key-0001")
        await other.get_by_label("Remember on this device").check()
        await other.get_by_role("button", name="Sign in").click()
        await expect(other.get_by_placeholder(PLACEHOLDER)).to_be_visible()
        third = await chat.page.context.new_page()
        await third.goto(chat.url)
        await expect(third.get_by_placeholder(PLACEHOLDER)).to_be_visible()
