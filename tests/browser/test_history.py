"""Chats as a list: found, named, pinned, deleted, taken elsewhere and brought back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from server.engines.base import Delta
from tests.browser.support import Chat, echo, expect
from tests.support.ranch import Ranch, until


async def menu(chat: Chat, title: str, item: str) -> None:
    """An item of a chat's menu."""
    await chat.chats.filter(has_text=title).hover()
    await chat.page.get_by_role("button", name=f"Menu of “{title}”").click()
    await chat.page.get_by_role("menuitem", name=item, exact=True).click()


async def three(chat: Chat, ranch: Ranch) -> None:
    """Three chats."""
    echo(ranch)
    for title in ("Apples", "Pears", "Plums"):
        await chat.page.get_by_role("link", name="New chat", exact=True).click()
        await expect(chat.mine).to_have_count(0)
        await chat.ask(title)
    await expect(chat.chats).to_have_text(["Plums", "Pears", "Apples"])


async def test_search_finds_titles_and_texts(chat: Chat, ranch: Ranch) -> None:
    await three(chat, ranch)
    search = chat.page.get_by_role("searchbox", name="Search chats")
    await chat.page.keyboard.press("Control+k")
    await expect(search).to_be_focused()
    await search.fill("pear")
    await expect(chat.chats).to_have_text(["Pears"])
    await search.fill("answer 1")
    await expect(chat.chats).to_have_text(["Apples"])
    await search.fill("nothing like it")
    await expect(chat.page.get_by_text("Nothing found.")).to_be_visible()
    await search.press("Escape")
    await expect(chat.chats).to_have_count(3)


async def test_a_chat_is_renamed(chat: Chat, ranch: Ranch) -> None:
    await three(chat, ranch)
    await menu(chat, "Pears", "Rename")
    name = chat.page.get_by_role("textbox", name="Name of the chat")
    await expect(name).to_be_focused()
    await name.fill("Williams")
    await name.press("Enter")
    await expect(chat.chats).to_have_text(["Plums", "Williams", "Apples"])
    await chat.page.reload()
    await expect(chat.chats).to_have_text(["Plums", "Williams", "Apples"])


async def test_a_pinned_chat_is_the_first(chat: Chat, ranch: Ranch) -> None:
    await three(chat, ranch)
    await menu(chat, "Apples", "Pin")
    await expect(chat.chats).to_have_text(["Apples", "Plums", "Pears"])
    await expect(chat.page.get_by_role("region", name="Pinned")).to_contain_text("Apples")
    await chat.page.reload()
    await expect(chat.chats).to_have_text(["Apples", "Plums", "Pears"])
    await menu(chat, "Apples", "Unpin")
    await expect(chat.chats).to_have_text(["Plums", "Pears", "Apples"])


async def test_a_chat_is_deleted_when_that_is_meant(chat: Chat, ranch: Ranch) -> None:
    await three(chat, ranch)
    await menu(chat, "Plums", "Delete")
    dialog = chat.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("“Plums” is deleted")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(chat.chats).to_have_count(3)
    await menu(chat, "Plums", "Delete")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(chat.chats).to_have_text(["Pears", "Apples"])
    # It was open: the page shows a new one.
    await expect(chat.page.get_by_role("heading", level=1)).to_have_text(
        "What shall the herd chew on?"
    )


async def test_markdown_holds_what_is_shown(chat: Chat, ranch: Ranch, tmp_path: Path) -> None:
    echo(ranch)
    await chat.ask("Apples", "Answer 1.")
    async with chat.page.expect_download() as downloading:
        await menu(chat, "Apples", "Export as Markdown")
    download = await downloading.value
    assert download.suggested_filename == "Apples.md"
    file = tmp_path / "chat.md"
    await download.save_as(file)
    text = file.read_text()
    assert text.startswith("# Apples\n")
    assert "Answer 1." in text


async def test_an_export_can_be_imported(chat: Chat, ranch: Ranch, tmp_path: Path) -> None:
    await three(chat, ranch)
    await chat.page.get_by_role("link", name="Settings").click()
    async with chat.page.expect_download() as downloading:
        await chat.button("Export all chats").click()
    file = tmp_path / "chats.json"
    await (await downloading.value).save_as(file)
    titles = [entry["title"] for entry in json.loads(file.read_text())["chats"]]
    assert sorted(titles) == ["Apples", "Pears", "Plums"]
    await chat.page.locator("input[type=file]").set_input_files(file)
    await expect(chat.page.get_by_text("3 chats imported")).to_be_visible()
    await expect(chat.chats).to_have_count(6)
    await chat.chats.filter(has_text="Apples").last.click()
    await expect(chat.said).to_have_text("Answer 1.")


async def test_what_is_no_export_is_refused_in_words(chat: Chat, tmp_path: Path) -> None:
    await chat.page.get_by_role("link", name="Settings").click()
    file = tmp_path / "other.json"
    file.write_text("no JSON")
    await chat.page.locator("input[type=file]").set_input_files(file)
    await expect(chat.page.get_by_text("That file is no export of Corral.")).to_be_visible()
    file.write_text('{"chats": 7}')
    await chat.page.locator("input[type=file]").set_input_files(file)
    await expect(chat.page.get_by_text("That did not work.")).to_be_visible()


async def test_a_draft_stays_where_it_was_written(chat: Chat, ranch: Ranch) -> None:
    await three(chat, ranch)
    await chat.box.fill("half a thought")
    await chat.chats.filter(has_text="Apples").click()
    await expect(chat.said).to_have_text("Answer 1.")
    await expect(chat.box).to_have_value("")
    await chat.chats.filter(has_text="Plums").click()
    await expect(chat.box).to_have_value("half a thought")


async def test_a_chat_that_is_not_there(chat: Chat) -> None:
    await chat.open("/c/chat_0")
    await expect(chat.page.get_by_text("There is no such chat.")).to_be_visible()


async def test_a_chat_is_deleted_while_it_is_answered(chat: Chat, ranch: Ranch) -> None:
    ranch.play_after(asyncio.Event(), [Delta(0, "Once", [10])], 1.0)
    await chat.write("Tell a story")
    await expect(chat.said).to_have_text("Once")
    await menu(chat, "Tell a story", "Delete")
    await chat.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await until(lambda: len(ranch.aborted) == 1)
    await chat.page.wait_for_timeout(2500)  # until it would have been kept again
    await expect(chat.page.get_by_role("log", name="Notices")).to_have_text("")


async def test_a_message_is_deleted_while_it_is_answered(chat: Chat, ranch: Ranch) -> None:
    ranch.play_after(asyncio.Event(), [Delta(0, "Once", [10])], 1.0)
    await chat.write("Tell a story")
    await expect(chat.said).to_have_text("Once")
    await (await chat.hover(chat.page.locator("article.user"), "Delete")).click()
    await chat.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await until(lambda: len(ranch.aborted) == 1)
    await expect(chat.mine).to_have_count(0)
    await chat.page.wait_for_timeout(2500)
    await expect(chat.page.get_by_role("log", name="Notices")).to_have_text("")
