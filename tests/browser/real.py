"""What tests of the chat page with the real model share."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.browser.support import Chat, expect
from tests.e2e.harness import INSTRUCT, RAW

__all__ = ["LLAMAS", "UNREACHABLE", "endless", "exactly", "patience"]

LLAMAS = "Tell me about llamas."
UNREACHABLE = "The server cannot be reached. Trying again…"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A real model takes its time, and a busy machine more."""
    expect.set_options(timeout=120_000)
    yield
    expect.set_options(timeout=20_000)


async def exactly(chat: Chat, tokens: int | None = None) -> None:
    """Have every answer of this chat be the model's likeliest, of so many tokens at most."""
    await chat.panel()
    await chat.set_number("Temperature", "0")
    if tokens is not None:
        await chat.set_number("Max tokens", str(tokens))
    await chat.page.keyboard.press("Control+Period")


async def endless(chat: Chat) -> None:
    """Have a base model go on with a text, which it does until it may no longer."""
    await chat.button(f"Model: {INSTRUCT}").click()
    await chat.page.get_by_role("menuitemradio", name=RAW).click()
    await exactly(chat, tokens=4000)
    await chat.write(LLAMAS)
    await expect(chat.said).to_have_text(re.compile(".{60}"))
