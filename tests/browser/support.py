"""The chat page in a browser, as a person uses it, on a real server over scripted engines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from server.engines.base import Delta, GenerationRequest
from server.engines.scripted import Step
from tests.support.ranch import Ranch
from tests.support.web import AXE

# What cannot be imported cannot be tested with: every test here imports this module first.
pytest.importorskip("playwright.async_api", reason="needs playwright, which make test installs")
from playwright.async_api import BrowserContext, Locator, Page, Route, expect

__all__ = ["Chat", "Locator", "Route", "echo", "expect", "findings", "words"]


# Beside two that share an engine, one of an engine of its own that is loaded when it is asked.
MODELS: tuple[Mapping[str, Any], ...] = (
    {
        "id": "shepherd",
        "description": "Chats.",
        "template": "chatml",
        "sampling": {"temperature": 0.25, "top_p": 0.9, "max_tokens": 1000},
    },
    {"id": "shepherd-raw", "description": "Goes on with a text.", "template": "raw"},
    {
        "id": "sleeper",
        "description": "Comes late.",
        "template": "chatml",
        "load": "on_demand",
        "engine": {"max_num_seqs": 7},
    },
)
PLACEHOLDER = "Ask the herd"
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
}
# What a page can be made to do by what is written into it, if it does not take care.
ATTACKS = (
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 2'>",
    "<svg onload='window.hit = 3'>",
    "<iframe srcdoc='<script>parent.hit = 4</script>'></iframe>",
    "[click](javascript:window.hit=5)",
    '![x](x"onerror="window.hit=6)',
    "<a href='javascript:window.hit=7'>x</a>",
    "<style>body{display:none}</style>",
    "$\\href{javascript:window.hit=8}{x}$ $$\\htmlClass{x}{y}$$",
    "```html\n<script>window.hit = 9</script>\n```",
    "<math><mtext><table><mglyph><style><img src=x onerror='window.hit=10'>",
    "{{ constructor.constructor('window.hit=11')() }}",
)


def words(text: str, pause: float = 0.0) -> list[Step]:
    """``text`` as an answer, a word a token."""
    steps: list[Step] = []
    for at, piece in enumerate(re.findall(r"\s*\S+\s*", text)):
        steps.append(Delta(0, piece, [10 + at % 200]))
        if pause:
            steps.append(pause)
    return [*steps, Delta(0, "", [2], finish_reason="stop")]


def echo(ranch: Ranch) -> None:
    """Have every model say which answer this is: "Answer 1." and so on."""
    count = 0

    def script(_: GenerationRequest) -> Iterable[Step]:
        nonlocal count
        count += 1
        return words(f"Answer {count}.")

    ranch.script = script


class Chat:
    """The page.

    Args:
        page: A page of a browser.
        url: The server's address.

    Attributes:
        errors: What the browser complained of.
        hosts: The hosts that the page asked something of.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add("/".join(request.url.split("/")[:3])))

    def _console(self, message: Any) -> None:
        # The browser's own line for every response that is no success; tests look at those.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.url + path)

    @property
    def box(self) -> Locator:
        """Where messages are written."""
        return self.page.get_by_placeholder(PLACEHOLDER)

    @property
    def answers(self) -> Locator:
        return self.page.locator("article.answer")

    @property
    def said(self) -> Locator:
        """What the answers say, without their names and figures."""
        return self.page.locator("article.answer .prose")

    @property
    def mine(self) -> Locator:
        return self.page.locator("article.user .bubble")

    @property
    def chats(self) -> Locator:
        """The titles beside the page."""
        return self.page.get_by_role("navigation", name="Chats").locator("li .title")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def write(self, text: str) -> None:
        """Write and send."""
        await self.box.fill(text)
        await self.box.press("Enter")

    async def ended(self) -> None:
        """Return when no answer is under way."""
        await expect(self.answers.last).to_have_attribute("aria-busy", "false")
        await expect(self.button("Stop")).to_have_count(0)

    async def ask(self, text: str, answer: str | None = None) -> None:
        """Write, and wait for the whole answer."""
        count = await self.answers.count()
        await self.write(text)
        await expect(self.answers).to_have_count(count + 1)
        if answer is not None:
            await expect(self.said.last).to_have_text(answer)
        await self.ended()

    async def panel(self) -> Locator:
        """The parameters of the chat, opened."""
        await self.button("Parameters").click()
        found = self.page.get_by_role("complementary", name="Parameters")
        await expect(found).to_be_visible()
        return found

    async def set_number(self, name: str, value: str) -> None:
        """Set a parameter, while they are shown."""
        field = self.page.get_by_role("textbox", name=name, exact=True)
        await field.fill(value)
        await field.press("Enter")

    async def hover(self, message: Locator, name: str) -> Locator:
        """A button below a message, which is shown while the message is pointed at."""
        await message.hover()
        return message.get_by_role("button", name=name, exact=True)


async def findings(chat: Chat) -> list[str]:
    """What axe finds on the page as it is, serious or not."""
    await chat.page.evaluate(AXE.read_text())
    # "region": open menus lie beside the landmarks, where nothing covers them.
    found: dict[str, Any] = await chat.page.evaluate("""() => axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
        rules: { region: { enabled: false } },
    })""")
    return [
        f"{violation['id']}: {node['html'][:150]} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


async def chat_in(context: BrowserContext, url: str) -> Chat:
    """A new page with nothing of the others."""
    page = await context.new_page()
    page.set_default_timeout(20_000)
    return Chat(page, url)
