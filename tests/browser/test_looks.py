"""Everybody can use it: by keyboard, on a phone, in the dark, in Chinese, with a screen reader."""

from __future__ import annotations

from typing import Any

import pytest

from server.engines.base import Delta
from tests.browser.conftest import Profiles
from tests.browser.support import PHONE, Chat, echo, expect, findings
from tests.support.ranch import Ranch
from tests.support.web import why_no_packages

ANSWER = """# A title

Some **bold** text with `code`, [a link](https://example.com) and $x^2$.

```python
def f(x: int) -> str:  # a comment
    return "text" + str(x + 1)
```

| a | b |
|---|---|
| 1 | 2 |

> quoted

1. one
2. two
"""


@pytest.mark.skipif(why_no_packages() != "", reason=why_no_packages())
@pytest.mark.parametrize(
    "settings", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"]
)
async def test_axe_finds_nothing(settings: dict[str, Any], profile: Profiles, ranch: Ranch) -> None:
    # What fades in or out has colours that nobody is to read.
    chat: Chat = await profile(**settings, reduced_motion="reduce")
    await chat.open()
    await expect(chat.button("Model: shepherd")).to_be_visible()
    assert await findings(chat) == []
    ranch.play(Delta(0, ANSWER, [10], finish_reason="length"))
    await chat.box.fill("Show everything")
    await chat.button("Send").click()
    await expect(chat.page.locator(".katex")).to_have_count(1)
    await chat.ended()
    await chat.button("Answer again").click()
    await expect(chat.page.get_by_role("group", name="Versions")).to_be_visible()
    assert await findings(chat) == []
    await chat.button("Model: shepherd").click()
    await expect(chat.page.get_by_role("menu")).to_be_visible()
    await chat.page.wait_for_timeout(300)  # until it has faded in
    assert await findings(chat) == []
    await chat.page.keyboard.press("Escape")
    await chat.button("Parameters").click()
    await expect(chat.page.get_by_role("complementary", name="Parameters")).to_be_visible()
    assert await findings(chat) == []
    await chat.button("Close").click()
    await chat.button("Show the prompt").last.click()
    await expect(chat.page.get_by_test_id("prompt")).to_be_visible()
    await chat.page.wait_for_timeout(300)
    assert await findings(chat) == []
    await chat.page.keyboard.press("Escape")
    for path in ("/compare", "/herd", "/settings"):
        await chat.open(path)
        await expect(chat.page.get_by_role("heading", level=1)).to_be_visible()
        await chat.page.wait_for_timeout(300)
        assert await findings(chat) == []
    await chat.page.keyboard.press("Control+/")
    await expect(chat.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await chat.page.wait_for_timeout(300)
    assert await findings(chat) == []


async def test_a_phone(profile: Profiles, ranch: Ranch) -> None:
    chat: Chat = await profile(**PHONE)
    await chat.open()
    ranch.play(Delta(0, ANSWER + "\n" + "long" * 100, [10], finish_reason="stop"))
    await chat.box.fill("On a phone")
    await chat.button("Send").tap()
    await chat.ended()
    width = await chat.page.evaluate("document.documentElement.scrollWidth")
    assert width == 390
    inner = await chat.page.locator(".scroller").evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert inner[0] == inner[1], "nothing but code and tables is wider than the phone"
    sidebar = chat.page.get_by_role("navigation", name="Chats")
    await expect(sidebar).to_have_count(0)
    await chat.button("Show the sidebar").tap()
    await expect(sidebar).to_be_in_viewport()
    echo(ranch)
    await sidebar.get_by_role("link", name="New chat", exact=True).tap()
    await expect(sidebar).to_have_count(0)
    await expect(chat.mine).to_have_count(0)
    # Everything that is touched is large enough for fingers.
    for name in ("Show the sidebar", "Parameters", "Send"):
        box = await chat.button(name).bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 40


async def test_a_drawer_has_the_keyboard_while_it_is_open(profile: Profiles) -> None:
    chat: Chat = await profile(viewport={"width": 600, "height": 800})
    await chat.open()
    await expect(chat.box).to_be_focused()  # which is the last that the page does by itself
    shower = chat.button("Show the sidebar")
    await shower.focus()
    await chat.page.keyboard.press("Enter")
    await expect(chat.button("Hide the sidebar")).to_be_focused()
    await expect(chat.page.locator("main")).to_have_js_property("inert", True)
    search = chat.page.get_by_role("searchbox")
    await search.fill("x")
    await search.press("Escape")
    await expect(search).to_have_value("")
    await search.press("Escape")
    await expect(chat.page.get_by_role("navigation", name="Chats")).to_have_count(0)
    await expect(shower).to_be_focused()


@pytest.mark.parametrize("path", ["/", "/compare", "/herd", "/settings"])
async def test_nothing_is_wider_than_a_window_that_is_enlarged_fourfold(
    path: str, profile: Profiles
) -> None:
    chat: Chat = await profile(viewport={"width": 320, "height": 256})
    await chat.open(path)
    await expect(chat.page.get_by_role("heading", level=1)).to_be_visible()
    assert await chat.page.evaluate("document.documentElement.scrollWidth") == 320
    for name in ("main", ".page, .chat-page, .compare"):
        box = await chat.page.locator(name).first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 320


async def test_lines_on_a_phone(profile: Profiles, ranch: Ranch) -> None:
    chat: Chat = await profile(**PHONE)
    await chat.open()
    echo(ranch)
    await chat.box.tap()
    await chat.page.keyboard.type("One")
    await chat.page.keyboard.press("Enter")
    await chat.page.keyboard.type("Two")
    await expect(chat.mine).to_have_count(0)
    await chat.button("Send").tap()
    await expect(chat.mine).to_have_text("One\nTwo")


async def test_all_by_keyboard(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    keyboard = chat.page.keyboard
    await expect(chat.box).to_be_focused()
    await keyboard.type("One")
    await keyboard.press("Enter")
    await expect(chat.said).to_have_text("Answer 1.")
    await chat.ended()
    await keyboard.press("ArrowUp")
    await expect(chat.page.get_by_role("textbox", name="Edit")).to_be_focused()
    await keyboard.press("Escape")
    await keyboard.press("?")
    await expect(chat.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await keyboard.press("Escape")
    await keyboard.press("/")
    await expect(chat.box).to_be_focused()
    await keyboard.press("Control+Shift+S")
    await expect(chat.page.get_by_role("navigation", name="Chats")).to_have_count(0)
    await keyboard.press("Control+Shift+S")
    await expect(chat.page.get_by_role("navigation", name="Chats")).to_be_visible()
    await keyboard.press("Control+Period")
    await expect(chat.page.get_by_role("complementary", name="Parameters")).to_be_visible()
    await keyboard.press("Control+Period")
    await keyboard.press("Control+Shift+O")
    await expect(chat.mine).to_have_count(0)
    await expect(chat.box).to_be_focused()
    await chat.page.reload()
    await expect(chat.box).to_be_focused()
    await chat.page.get_by_role("link", name="Corral, new chat").focus()
    await keyboard.press("Shift+Tab")
    await expect(chat.page.get_by_role("link", name="Skip to the conversation")).to_be_focused()


async def test_the_menu_gives_the_focus_back(chat: Chat) -> None:
    picker = chat.button("Model: shepherd")
    await picker.focus()
    await chat.page.keyboard.press("Enter")
    await expect(chat.page.get_by_role("menuitemradio").first).to_be_visible()
    await chat.page.keyboard.press("Escape")
    await expect(picker).to_be_focused()


async def test_chinese(profile: Profiles, ranch: Ranch) -> None:
    chat: Chat = await profile(locale="zh-CN")
    await chat.open()
    await expect(chat.page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(chat.page.get_by_role("heading", name="想聊点什么？")).to_be_visible()
    ranch.play(Delta(0, "**你好。**我是羊驼。", [10], finish_reason="stop"))
    await chat.page.get_by_placeholder("问点什么").fill("你是谁？")
    await chat.page.keyboard.press("Enter")
    await expect(chat.said).to_have_text("你好。我是羊驼。")
    await expect(chat.said.locator("strong")).to_have_text("你好。")
    await expect(chat.chats).to_have_count(0)  # the list has another name here
    await chat.page.get_by_role("link", name="设置").click()
    await chat.page.get_by_label("语言").select_option("English")
    await expect(chat.page.get_by_role("heading", level=1)).to_have_text("Settings")
    await chat.page.reload()
    await expect(chat.page.get_by_role("heading", level=1)).to_have_text("Settings")


async def test_the_chosen_colours_are_there_at_once(chat: Chat) -> None:
    await chat.open("/settings")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    light = await chat.page.evaluate(colour)
    await chat.page.get_by_role("radio", name="Dark").check()
    dark = await chat.page.evaluate(colour)
    assert light != dark
    await chat.page.reload(wait_until="commit")
    await chat.page.wait_for_function(
        "document.body && document.getElementById('app')?.childElementCount"
    )
    assert await chat.page.evaluate(colour) == dark


async def test_enter_may_be_a_new_line(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.open("/settings")
    await chat.page.get_by_role("checkbox", name="Enter sends").uncheck()
    await chat.open("/")
    await chat.box.click()
    await chat.page.keyboard.type("One")
    await chat.page.keyboard.press("Enter")
    await chat.page.keyboard.type("Two")
    await chat.page.keyboard.press("Control+Enter")
    await expect(chat.mine).to_have_text("One\nTwo")


async def test_motion_stops_for_who_asks_for_that(profile: Profiles) -> None:
    chat: Chat = await profile(reduced_motion="reduce")
    await chat.open()
    duration = await chat.page.locator(".shell").evaluate(
        "e => getComputedStyle(e).transitionDuration"
    )
    assert float(duration.removesuffix("s")) < 0.001
