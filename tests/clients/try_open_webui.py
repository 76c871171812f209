"""Open WebUI in a browser: a chat with two turns, and everything else that makes it ask the server.

Reads OPEN_WEBUI_URL, OPENAI_BASE_URL (of the server itself, which must run on this machine), MODEL,
RECORD (what `recorder` writes), TASKS (those of its background tasks that are switched on),
SCREENSHOT (where to put it; none without), CHROMIUM (the program).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Locator, Page, expect, sync_playwright
from wire import Exchange, Wire

MODEL = os.environ["MODEL"]
QUESTION = "What is the capital of France? Answer in one sentence."
# How the prompts of its background tasks differ.
PROMPTS = {
    "title": "Generate a concise title",
    "follow-ups": "Predict 3-5 useful messages",
    "tags": "Generate 1-3 broad tags",
}


def messages(exchange: Exchange) -> list[tuple[str, str]]:
    """The roles and texts of a chat request or a response's input; [] of other requests."""
    body = exchange["body"] or {}
    found = []
    for message in body.get("messages") or body.get("input") or []:
        content = message["content"]
        found.append((message["role"], content if isinstance(content, str) else content[0]["text"]))
    return found


def is_task(exchange: Exchange, name: str) -> bool:
    said = messages(exchange)
    return bool(said) and said[0][1].startswith("### Task:\n" + PROMPTS[name])


def is_chat(exchange: Exchange) -> bool:
    said = messages(exchange)
    return bool(said) and not said[0][1].startswith("### Task:")


def engine_load(port: int) -> float:
    """Cores that the processes below the server on this port use, over a second."""
    server = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    )
    below = psutil.Process(server).children(recursive=True)

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in below)

    before = used()
    time.sleep(1)
    return used() - before


class Chat:
    """The page, as a person uses it, beside what goes over the wire meanwhile.

    Args:
        page: A page of a browser.
        wire: The record of what Open WebUI asks the server.
    """

    def __init__(self, page: Page, wire: Wire) -> None:
        self.page = page
        self._wire = wire
        self._seen = 0

    def button(self, name: str) -> Locator:
        """The last button of this name."""
        return self.page.get_by_role("button", name=name, exact=True).last

    def open(self, url: str) -> None:
        """Open it, leave its greeting, choose the model."""
        self.page.goto(url)
        self.page.get_by_text("Okay, Let's Go!").click()
        self.page.locator("#model-selector-model-button").click()
        self.page.get_by_label(f"Select {MODEL} model", exact=True).click()

    def ask(self, text: str) -> None:
        self._seen = len(self._wire.exchanges())
        self.page.locator("#chat-input").click()
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def press(self, *names: str) -> None:
        """A button below the last answer, then what opens."""
        self._seen = len(self._wire.exchanges())
        self.button(names[0]).click()
        for name in names[1:]:
            self.page.get_by_text(name, exact=True).click()

    def answer(self) -> str:
        """The last answer as it is shown; waits until it grows no more."""
        shown, before = self.page.locator("#response-content-container").last, ""
        while (text := shown.inner_text()) != before or not text:
            before = text
            self.page.wait_for_timeout(1000)
        return text

    def answered(self, ended: str = "whole") -> Exchange:
        """The chat request that the last step made; waits for its end."""
        exchange = self._wire.until(
            lambda exchange: is_chat(exchange) and exchange["ended"] == ended,
            f"chat request that ends {ended}",
            self._seen,
        )
        expect(self.button("Regenerate")).to_be_visible()
        return exchange

    def wait_for_tasks(self) -> None:
        """Return when its tasks are done, which may take minutes: the model may ramble."""
        for name in os.environ["TASKS"].split():
            self._wire.until(lambda exchange, name=name: is_task(exchange, name), name)
        expect(self.button("Stop")).to_have_count(0)


def first_turns(chat: Chat) -> None:
    chat.ask(QUESTION)
    asked = chat.answered()
    assert messages(asked) == [("user", QUESTION)]
    assert asked["body"]["stream"] is True
    answer = chat.answer()
    assert "Paris" in answer, answer
    chat.wait_for_tasks()
    chat.ask("And of Italy?")
    assert messages(chat.answered()) == [
        ("user", QUESTION),
        ("assistant", answer),
        ("user", "And of Italy?"),
    ]
    print("two turns:", answer, chat.answer())


def again(chat: Chat) -> None:
    chat.press("Regenerate", "Try Again")
    assert [role for role, _ in messages(chat.answered())] == ["user", "assistant", "user"]
    before = chat.answer()
    chat.press("Continue Response")
    assert messages(chat.answered())[-1] == ("assistant", before)
    print("regenerated and continued:", chat.answer())


def stop(chat: Chat) -> None:
    port = urlsplit(os.environ["OPENAI_BASE_URL"]).port
    assert port is not None
    chat.ask("Write a long story about a horse, its rider and the sea.")
    answer = chat.page.locator("#response-content-container").last
    expect(answer).to_contain_text("horse")
    busy = engine_load(port)
    chat.press("Stop")
    chat.answered("left")
    time.sleep(1)
    idle = engine_load(port)
    print(f"stopped: the engine used {busy:.2f} cores before, {idle:.2f} a second later")
    assert busy > 0.1 > idle


def without_stream(chat: Chat) -> None:
    chat.button("Controls").click()
    row = chat.page.get_by_text("Stream Chat Response", exact=True)
    switch = row.locator("xpath=following::button[1]")
    while switch.inner_text().strip() != "Off":
        switch.click()
    chat.ask("What is the capital of Spain? Answer in one sentence.")
    assert chat.answered()["body"]["stream"] is False
    print("not streamed:", chat.answer())


def main() -> None:
    wire = Wire(Path(os.environ["RECORD"]))
    screenshot = os.environ.get("SCREENSHOT")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"],
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        page = browser.new_page(viewport={"width": 1080, "height": 640})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=300_000)
        chat = Chat(page, wire)
        chat.open(os.environ["OPEN_WEBUI_URL"])
        first_turns(chat)
        if screenshot:
            expect(chat.button("Stop")).to_have_count(0)
            page.screenshot(path=screenshot)
        again(chat)
        stop(chat)
        without_stream(chat)
        browser.close()


main()
