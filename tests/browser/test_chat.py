"""The first chat, and all that can be done to an answer."""

from __future__ import annotations

import asyncio

from server.engines.base import Delta
from tests.browser.support import Chat, echo, expect, words
from tests.support.ranch import Ranch, until


async def test_the_first_chat(chat: Chat, ranch: Ranch) -> None:
    more = asyncio.Event()
    ranch.play_after(
        more,
        [Delta(0, "The capital of ", [10, 11])],
        Delta(0, "France is Paris.", [12], finish_reason="stop"),
    )
    await chat.write("What is the capital of France?")
    await expect(chat.mine).to_have_text("What is the capital of France?")
    # It is shown while it is written.
    await expect(chat.said).to_have_text("The capital of")
    await expect(chat.button("Stop")).to_be_visible()
    await chat.page.wait_for_timeout(200)  # long enough to tell how fast it is
    more.set()
    await expect(chat.said).to_have_text("The capital of France is Paris.")
    await chat.ended()
    await expect(chat.answers.last).to_contain_text("3 tokens")
    await expect(chat.answers.last).to_contain_text("tokens/s")
    await expect(chat.chats).to_have_text(["What is the capital of France?"])
    await expect(chat.page).to_have_title("What is the capital of France? · Corral")
    assert "/c/chat" in chat.page.url


async def test_a_reload_keeps_everything(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("One", "Answer 1.")
    await chat.ask("Two", "Answer 2.")
    await chat.page.reload()
    await expect(chat.mine).to_have_text(["One", "Two"])
    await expect(chat.said).to_have_text(["Answer 1.", "Answer 2."])
    await expect(chat.answers.last).to_contain_text("tokens")
    await chat.ask("Three", "Answer 3.")


async def test_a_conversation_is_sent_whole(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("One", "Answer 1.")
    await chat.ask("Two", "Answer 2.")
    first, second = ranch.requests
    # ChatML in bytes: what was said first, the answer, and what was said then.
    assert len(second.prompt_token_ids) > len(first.prompt_token_ids) + len("Answer 1.") + len(
        "Two"
    )


async def test_stop_ends_the_engines_work_and_keeps_what_was_said(chat: Chat, ranch: Ranch) -> None:
    ranch.play_after(asyncio.Event(), [Delta(0, "Once upon a time", [10, 11, 12, 13])], 1.0)
    await chat.write("Tell a story")
    await expect(chat.said).to_have_text("Once upon a time")
    await chat.button("Stop").click()
    await until(lambda: len(ranch.aborted) == 1)
    await chat.ended()
    await expect(chat.answers.last).to_contain_text("Stopped")
    await expect(chat.answers.last).to_contain_text("4 tokens")
    await chat.page.reload()
    await expect(chat.said).to_have_text("Once upon a time")
    # And it can be gone on with, in the same answer.
    ranch.play(*words(" there was a llama."))
    await chat.button("Go on").click()
    await expect(chat.said).to_have_text("Once upon a time there was a llama.")


async def test_escape_stops_too(chat: Chat, ranch: Ranch) -> None:
    ranch.play_after(asyncio.Event(), [Delta(0, "Once", [10])], 1.0)
    await chat.write("Tell a story")
    await expect(chat.said).to_have_text("Once")
    await chat.page.keyboard.press("Escape")
    await until(lambda: len(ranch.aborted) == 1)


async def test_a_page_that_is_closed_keeps_what_was_written(chat: Chat, ranch: Ranch) -> None:
    ranch.play_after(asyncio.Event(), [Delta(0, "Half of it", [10])], 1.0)
    await chat.write("Go")
    await expect(chat.said).to_have_text("Half of it")
    await chat.page.reload()
    await until(lambda: len(ranch.aborted) == 1)
    # It may have been kept after it was asked for: the page looks again.
    await expect(chat.said).to_have_text("Half of it")
    await expect(chat.answers.last).to_contain_text("Cut off")


async def test_regenerate_makes_a_version_beside_the_first(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("Hello", "Answer 1.")
    await chat.button("Answer again").click()
    await expect(chat.said).to_have_text("Answer 2.")
    await chat.ended()
    versions = chat.answers.last.get_by_role("group", name="Versions")
    await expect(versions).to_contain_text("2/2")
    await versions.get_by_role("button", name="Previous version").click()
    await expect(chat.said).to_have_text("Answer 1.")
    await chat.page.reload()
    await expect(chat.said).to_have_text("Answer 1.")
    await expect(versions).to_contain_text("1/2")


async def test_an_edited_message_is_a_branch_and_nothing_is_lost(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("One", "Answer 1.")
    await chat.ask("Two", "Answer 2.")
    first = chat.page.locator("article.user").first
    await (await chat.hover(first, "Edit")).click()
    editor = first.get_by_role("textbox", name="Edit")
    await editor.fill("Uno")
    await editor.press("Enter")
    await expect(chat.mine).to_have_text(["Uno"])
    await expect(chat.said).to_have_text(["Answer 3."])
    await chat.ended()
    versions = first.get_by_role("group", name="Versions")
    await expect(versions).to_contain_text("2/2")
    await versions.get_by_role("button", name="Previous version").click()
    await expect(chat.mine).to_have_text(["One", "Two"])
    await expect(chat.said).to_have_text(["Answer 1.", "Answer 2."])
    await versions.get_by_role("button", name="Next version").click()
    await expect(chat.mine).to_have_text(["Uno"])


async def test_an_answer_can_be_edited_and_is_what_the_model_said_then(
    chat: Chat, ranch: Ranch
) -> None:
    echo(ranch)
    await chat.ask("One", "Answer 1.")
    await chat.button("Edit").last.click()
    await chat.answers.last.get_by_role("textbox", name="Edit").fill("My own words.")
    await chat.button("Save").click()
    await expect(chat.said).to_have_text("My own words.")
    assert len(ranch.requests) == 1
    await chat.ask("Two", "Answer 2.")
    tokens = len("My own words.")
    assert len(ranch.request.prompt_token_ids) > len(ranch.requests[0].prompt_token_ids) + tokens


async def test_a_message_is_deleted_with_what_follows(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("One", "Answer 1.")
    await chat.ask("Two", "Answer 2.")
    second = chat.page.locator("article.user").last
    await (await chat.hover(second, "Delete")).click()
    await chat.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(chat.mine).to_have_text(["One"])
    await chat.page.reload()
    await expect(chat.said).to_have_text(["Answer 1."])


async def test_enter_sends_but_not_within_an_input_method(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.box.click()
    session = await chat.page.context.new_cdp_session(chat.page)
    await session.send(
        "Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5}
    )
    press = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    await session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **press})
    await session.send("Input.dispatchKeyEvent", {"type": "keyUp", **press})
    await session.send("Input.insertText", {"text": "你好"})
    await expect(chat.box).to_have_value("你好")
    await expect(chat.mine).to_have_count(0)
    await chat.box.press("Shift+Enter")
    await chat.page.keyboard.type("世界")
    await chat.box.press("Enter")
    await expect(chat.mine).to_have_text("你好\n世界")


async def test_copying_also_on_plain_http(chat: Chat, ranch: Ranch) -> None:
    ranch.play(Delta(0, "Run\n\n```python\nprint(1)\n```\n", [10], finish_reason="stop"))
    await chat.ask("Code")
    # As on a page that came over plain HTTP: no clipboard, only selecting and copying.
    await chat.page.evaluate("""() => {
        Object.defineProperty(window, 'isSecureContext', { value: false });
        document.addEventListener('copy', () => { window.copied = document.activeElement.value; });
    }""")
    await chat.page.locator(".code .copy").click()
    await expect(chat.page.locator(".code .copy")).to_have_text("Copied")
    assert await chat.page.evaluate("window.copied") == "print(1)"


async def test_code_is_highlighted_and_formulas_are_set(chat: Chat, ranch: Ranch) -> None:
    ranch.play(
        Delta(
            0,
            "```python\ndef f(): pass\n```\n\nso $x^2$ and\n\n$$\n\\frac12\n$$\n",
            [10],
            finish_reason="stop",
        )
    )
    await chat.ask("Both")
    await expect(chat.page.locator(".code .hljs-keyword").first).to_have_text("def")
    await expect(chat.page.locator(".math .katex")).to_have_count(2)
    # Under the page's policy its fonts and styles must work too.
    width = await chat.page.locator(".math.display .katex .mfrac").first.evaluate(
        "e => e.offsetHeight"
    )
    assert width > 20
    fonts = await chat.page.evaluate(
        "document.fonts.ready"
        ".then(() => [...document.fonts].filter((font) => font.status === 'loaded').length)"
    )
    assert fonts > 0


async def test_the_view_follows_only_who_is_at_the_end(chat: Chat, ranch: Ranch) -> None:
    more = asyncio.Event()
    text = "\n\n".join(f"Paragraph {number}" for number in range(60))
    ranch.play_after(
        more, [Delta(0, text, [10])], Delta(0, "\n\nThe end", [11], finish_reason="stop")
    )
    await chat.write("Go")
    await expect(chat.said).to_contain_text("Paragraph 59")
    scroller = chat.page.locator(".scroller")
    await expect(chat.page.get_by_text("Paragraph 59")).to_be_in_viewport()
    await scroller.hover()
    await chat.page.mouse.wheel(0, -600)
    await expect(chat.button("To the end")).to_be_visible()
    before = await scroller.evaluate("e => e.scrollTop")
    more.set()
    await expect(chat.said).to_contain_text("The end")
    await chat.ended()
    assert await scroller.evaluate("e => e.scrollTop") == before
    await chat.button("To the end").click()
    await expect(chat.page.get_by_text("The end")).to_be_in_viewport()
    await expect(chat.button("To the end")).to_have_count(0)


async def test_start_and_end_are_announced_and_no_token(chat: Chat, ranch: Ranch) -> None:
    await chat.page.evaluate("""() => {
        window.spoken = [];
        const live = [...document.querySelectorAll('[role=status].hidden')].at(-1);
        new MutationObserver(() => window.spoken.push(live.textContent))
            .observe(live, { childList: true, characterData: true, subtree: true });
    }""")
    ranch.play(*words("one two three four five six", pause=0.02))
    await chat.ask("Count")
    spoken = await chat.page.evaluate("window.spoken")
    assert spoken == ["An answer begins.", "The answer is complete."]
    assert await chat.page.locator(".scroller [aria-live]").count() == 0
