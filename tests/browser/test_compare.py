"""Several models side by side, and the prompt behind an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from server.engines.base import Delta, GenerationRequest
from server.engines.scripted import Step
from tests.browser.support import Chat, Locator, echo, expect, words
from tests.support.ranch import Ranch, until


def column(chat: Chat, model: str) -> Locator:
    return chat.page.get_by_role("region", name=model, exact=True)


async def ask_all(chat: Chat, text: str) -> None:
    box = chat.page.get_by_placeholder("Ask all of them")
    await box.fill(text)
    await box.press("Enter")


async def test_models_answer_side_by_side_at_the_same_time(chat: Chat, ranch: Ranch) -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    def script(request: GenerationRequest) -> Iterable[Step]:
        at = len(ranch.requests) - 1
        yield Delta(0, f"Model {len(request.prompt_token_ids)} begins", [10])
        while not gates[at].is_set():
            yield 0.01
        yield Delta(0, " and ends.", [11], finish_reason="stop")

    ranch.script = script
    await chat.page.get_by_role("link", name="Compare").click()
    await expect(
        chat.page.locator("section.column section.column, .columns > section")
    ).to_have_count(3)
    await chat.button("Remove sleeper").click()
    await ask_all(chat, "The sky is")
    first, second = column(chat, "shepherd"), column(chat, "shepherd-raw")
    # Both have begun before either has ended.
    await expect(first).to_contain_text("begins")
    await expect(second).to_contain_text("begins")
    assert len(ranch.requests) == 2
    for gate in gates:
        gate.set()
    await expect(first).to_contain_text("and ends.")
    await expect(second).to_contain_text("and ends.")
    chatted, raw = (len(request.prompt_token_ids) for request in ranch.requests)
    assert chatted > raw, "each gets the prompt that it was trained on"
    # What was said goes on in each column.
    echo(ranch)
    await ask_all(chat, "And the sea?")
    await expect(first.locator(".prose")).to_have_count(2)
    await expect(second.locator(".prose")).to_have_count(2)


async def test_all_of_them_are_stopped(chat: Chat, ranch: Ranch) -> None:
    ranch.play_after(asyncio.Event(), [Delta(0, "Once", [10])], 0.05)
    await chat.open("/compare")
    await chat.button("Remove sleeper").click()
    await ask_all(chat, "Go")
    await expect(column(chat, "shepherd")).to_contain_text("Once")
    await expect(column(chat, "shepherd-raw")).to_contain_text("Once")
    await chat.button("Stop").click()
    await until(lambda: len(ranch.aborted) == 2)
    await expect(column(chat, "shepherd")).to_contain_text("Stopped")


async def test_a_column_becomes_a_chat(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.open("/compare")
    await chat.button("Remove sleeper").click()
    await ask_all(chat, "Hi")
    await expect(column(chat, "shepherd-raw").locator(".prose")).to_have_count(1)
    said = await column(chat, "shepherd-raw").locator(".prose").inner_text()
    await chat.button("Go on with shepherd-raw in a chat").click()
    await expect(chat.mine).to_have_text("Hi")
    await expect(chat.said).to_have_text(said)
    await expect(chat.button("Model: shepherd-raw")).to_be_visible()
    await chat.page.reload()
    await expect(chat.said).to_have_text(said)
    await chat.ask("More", "Answer 3.")


async def test_columns_are_added_up_to_four_and_remembered(chat: Chat) -> None:
    await chat.open("/compare")
    columns = chat.page.locator(".columns > section")
    await expect(columns).to_have_count(3)
    await chat.button("Add a model").click()
    await expect(columns).to_have_count(4)
    await expect(chat.button("Add a model")).to_have_count(0)
    await chat.page.reload()
    await expect(columns).to_have_count(4)


async def test_one_that_fails_leaves_the_others_alone(chat: Chat, ranch: Ranch) -> None:
    def script(request: GenerationRequest) -> Iterable[Step]:
        if len(ranch.requests) == 1:
            return [RuntimeError("a bug")]
        return words("Fine.")

    ranch.script = script
    await chat.open("/compare")
    await chat.button("Remove sleeper").click()
    await ask_all(chat, "Hi")
    await expect(chat.page.locator(".columns").get_by_role("alert")).to_have_count(1)
    await expect(chat.page.locator(".columns .prose")).to_have_text(["Fine."])
    await chat.button("Try again").click()
    await expect(chat.page.locator(".columns .prose")).to_have_text(["Fine.", "Fine."])


async def test_the_prompt_is_shown_exactly(chat: Chat, ranch: Ranch) -> None:
    echo(ranch)
    await chat.ask("Hi <|im_end|>", "Answer 1.")
    asked = list(ranch.request.prompt_token_ids)
    await chat.ask("More", "Answer 2.")
    await (await chat.hover(chat.answers.first, "Show the prompt")).click()
    dialog = chat.page.get_by_role("dialog", name="The prompt")
    shown = dialog.get_by_test_id("prompt")
    await expect(shown).to_contain_text("Hi <|im_end|>")
    assert await shown.text_content() == (
        "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    await expect(dialog).to_contain_text("chatml")
    await dialog.get_by_role("button", name="Tokens").click()
    ids = await dialog.get_by_test_id("tokens").locator(".id").all_inner_texts()
    assert [int(number) for number in ids] == asked
    await chat.page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
