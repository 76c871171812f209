"""Take the pictures of docs/images of the chat page, from a server that runs.

    python -m scripts.screenshots [--url http://127.0.0.1:8000] [--into docs/images]

The answers are the model's own, so pictures differ from run to run in their words. Needs what
``make test`` installs, and Chromium. The chats are a new visitor's, and stay in the database.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from scripts import chromium

ROOT = Path(__file__).resolve().parent.parent
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1.5}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
COLOURS = 255
PATIENCE_MS = 120_000
SKY = "Explain in simple words why the sky is blue."
CODE = "Write a Python function that tells whether a word is a palindrome."
LLAMAS = "What do llamas eat?"
# Days ago → titles: what a list looks like after some weeks.
EARLIER = {
    0: ["Packing list for the Andes", "Rename photos by date"],
    1: ["What is a Merkle tree?", "Haiku about wool"],
    4: ["Tax letter, plainer words", "regex for ISO dates", "Names for a grey llama"],
    12: ["Compare merge and rebase", "Bread without kneading"],
    40: ["Plan a small herb garden"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server's address")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("names", nargs="*", help="some of the pictures alone")
    options = parser.parse_args()
    expect.set_options(timeout=PATIENCE_MS)
    options.into.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium.launch_options())
        for name, take in PICTURES.items():
            if not options.names or name in options.names:
                keep(take(browser, options.url), options.into / f"page-{name}.png")
        browser.close()


def keep(picture: bytes, path: Path) -> None:
    """Write a picture with few colours, which is a third of its size."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, 3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def visit(browser: Browser, url: str, path: str = "/", **settings: Any) -> Page:
    """The page of a visitor who has been here for some weeks."""
    context = browser.new_context(**({"locale": "en-US"} | DESKTOP | settings))
    fill(context, url)
    page = context.new_page()
    page.goto(url + path)
    return page


def fill(context: BrowserContext, url: str) -> None:
    context.request.get(f"{url}/ui/session")
    chats = [
        {"title": title, "created": when, "updated": when, "messages": []}
        for days, titles in EARLIER.items()
        for when in [time.time() - days * 86_400 - 900]
        for title in titles
    ]
    file = {"format": "corral-chats", "version": 1, "chats": chats}
    answer = context.request.post(f"{url}/ui/import", data=file)
    if not answer.ok:
        raise SystemExit(f"the chats were refused: {answer.text()}")


def ask(page: Page, text: str) -> None:
    """Ask, and wait for the whole answer."""
    page.get_by_placeholder("Ask the herd").fill(text)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("article.answer").last).to_have_attribute("aria-busy", "false")


def taken(page: Page) -> bytes:
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until everything has faded in
    picture = page.screenshot()
    page.context.close()
    return picture


def desktop(browser: Browser, url: str) -> bytes:
    page = visit(browser, url)
    ask(page, CODE)
    return taken(page)


def dark(browser: Browser, url: str) -> bytes:
    page = visit(browser, url, color_scheme="dark")
    page.get_by_role("button", name="Parameters").click()
    page.get_by_role("textbox", name="Max tokens").fill("180")
    ask(page, SKY)
    return taken(page)


def mobile(browser: Browser, url: str) -> bytes:
    page = visit(browser, url, **PHONE)
    ask(page, SKY)
    return taken(page)


def compare(browser: Browser, url: str) -> bytes:
    page = visit(browser, url, "/compare")
    page.get_by_role("button", name="Parameters").click()
    page.get_by_role("textbox", name="Max tokens").fill("60")
    page.get_by_role("button", name="Close").click()
    page.get_by_placeholder("Ask all of them").fill(LLAMAS)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("tokens read")).to_have_count(
        page.locator(".columns > section").count()
    )
    return taken(page)


def herd(browser: Browser, url: str) -> bytes:
    page = visit(browser, url, "/herd")
    expect(page.locator("section.card").first).to_be_visible()
    return taken(page)


def prompt(browser: Browser, url: str) -> bytes:
    page = visit(browser, url)
    ask(page, SKY)
    page.get_by_role("button", name="Show the prompt").last.click()
    page.get_by_role("button", name="Tokens").click()
    expect(page.get_by_test_id("tokens")).to_be_visible()
    return taken(page)


PICTURES: dict[str, Callable[[Browser, str], bytes]] = {
    "desktop": desktop,
    "dark": dark,
    "mobile": mobile,
    "compare": compare,
    "herd": herd,
    "prompt": prompt,
}

if __name__ == "__main__":
    main()
