"""The chat page in a browser: how soon it is there, and how quick it stays.

The browser, the server and the model share this machine, as they do for who runs ``make serve`` on
a laptop.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Page, Response, Route, expect, sync_playwright

from benchmarks.errors import BenchError
from benchmarks.options import Session, add_rounds, positive, say
from benchmarks.report import Report
from benchmarks.servers import Server, corral
from scripts import chromium
from server.web import STATIC, is_built

KEY_PAUSE_MS = 60
ARTICLE = "Write a long article about llamas, with headings, lists, tables and code."
# From a key to the end of the frame that shows what it did.
WATCH_KEYS = """() => {
    window.latencies = [];
    addEventListener('keydown', (event) => requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = () => latencies.push(performance.now() - event.timeStamp);
        channel.port2.postMessage(null);
    }), true);
}"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, once a round.

    Args:
        name: In the table.
        unit: Of the values.
        values: One a round.
        limit: Largest median that is kept to; None only reports.
    """

    name: str
    unit: str
    values: list[float]
    limit: float | None = None

    @property
    def middle(self) -> float:
        return median(self.values)

    @property
    def kept(self) -> bool:
        return self.limit is None or self.middle <= self.limit

    def row(self) -> list[str]:
        """For the table."""
        ends = f"{min(self.values):.4g}–{max(self.values):.4g}" if len(self.values) > 1 else ""
        limit = (
            [] if self.limit is None else [f"≤ {self.limit:g}", "kept" if self.kept else "missed"]
        )
        return [self.name, f"{self.middle:.4g} {self.unit}", ends, *(limit or ["", ""])]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    add_rounds(parser, 3)
    parser.add_argument("--tokens", type=positive, default=2000, help="of the answer [%(default)s]")
    parser.add_argument("--chats", type=positive, default=10_000, help="in the list [%(default)s]")
    parser.add_argument(
        "--messages", type=positive, default=2000, help="of the long chat [%(default)s]"
    )


def measure(session: Session) -> Report:
    """Everything once a round, each round in a profile of its own.

    Raises:
        BenchError: There is no browser, or no page.
    """
    if chromium.find() is None:
        raise BenchError(chromium.MISSING)
    if not is_built(STATIC):
        raise BenchError("the chat page is not built: python3 -m scripts.build_web")
    rounds = []
    with TemporaryDirectory(prefix="corral-bench-data-") as data, sync_playwright() as playwright:
        kept = {"CORRAL_DATABASE_URL": f"sqlite:///{data}/corral.db"}
        options = session.options
        with Server(corral(session.model), session.logs, options.port, kept) as server:
            server.wait_ready(session.model.id, options.timeout)
            browser = playwright.chromium.launch(**chromium.launch_options())
            for number in range(1, options.rounds + 1):
                page = browser.new_context(locale="en-US").new_page()
                rounds.append(_round(page, server.url, options))
                page.context.close()
                say(f"round {number}: {rounds[-1]}")
            browser.close()
    return report(rounds, options)


def report(rounds: list[dict[str, float]], options: argparse.Namespace) -> Report:
    """The table of all rounds."""
    found = [
        Figure(name, unit, [one[key] for one in rounds], limit)
        for key, name, unit, limit in _figures(options)
    ]
    return Report(
        section="page",
        title="The chat page",
        table=[["", "median", "rounds", "limit", ""], *(figure.row() for figure in found)],
        runs=[asdict(figure) for figure in found],
        notes=[
            "Chromium, the server and the model on the same machine. A key's latency is the time "
            "from its event to the end of the frame that shows it, measured in the page while an "
            f"answer of {options.tokens:,} tokens is written; {1000 / KEY_PAUSE_MS:.0f} keys a "
            "second are pressed. Bytes are those of everything a first chat loads, as gzip."
        ],
        missed=[
            f"{figure.name}: {figure.middle:.4g} {figure.unit}, limit ≤ {figure.limit:g}"
            for figure in found
            if not figure.kept
        ],
    )


def _figures(options: argparse.Namespace) -> list[tuple[str, str, str, float | None]]:
    chats, messages = f"{options.chats:,}", f"{options.messages:,}"
    return [
        ("bytes", "first load", "kB", 150.0),
        ("open", "first load until one can write", "s", None),
        ("key", "key while an answer is written, median", "ms", 50.0),
        ("key_p99", "key while an answer is written, 99th of 100", "ms", 50.0),
        ("key_worst", "key while an answer is written, slowest", "ms", None),
        ("list", f"reload until the newest of {chats} chats is shown", "s", 1.0),
        ("search", f"search of {chats} chats by a word in a message", "s", 1.0),
        ("long", f"opening a chat of {messages} messages", "s", 1.0),
    ]


def _round(page: Page, url: str, options: argparse.Namespace) -> dict[str, float]:
    expect.set_options(timeout=options.timeout * 1000)
    found = _first_load(page, url)
    found |= _typing(page, options.tokens)
    _fill(page, url, options)
    newest = page.get_by_role("link", name=f"Chat {options.chats - 1}", exact=True)
    found["list"] = _seconds(page.reload, newest.wait_for)
    search = page.get_by_role("searchbox")
    wanted = options.chats // 2
    hit = page.locator("nav li .title", has_text=f"Chat {wanted}")
    found["search"] = _seconds(
        lambda: search.fill(f"word{wanted}x"), lambda: expect(hit).to_have_count(1)
    )
    search.fill("")
    long = page.get_by_role("link", name="Long", exact=True)
    last = page.get_by_text(f"Message {options.messages - 1} ")
    found["long"] = _seconds(long.click, last.wait_for)
    return found


def _seconds(act: Callable[[], Any], seen: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    seen()
    return time.perf_counter() - started


def _first_load(page: Page, url: str) -> dict[str, float]:
    loaded: list[Response] = []
    page.on("response", lambda response: loaded.append(response))  # noqa: PLW0108 - Playwright marks it
    box = page.get_by_placeholder("Ask the herd")
    seconds = _seconds(lambda: page.goto(url), box.wait_for)
    _ask(page, "Hi")
    _ended(page)
    files = [one for one in loaded if "/assets/" in one.url or one.url == f"{url}/"]
    size = sum(len(gzip.compress(one.body(), 9)) for one in files)
    return {"bytes": size / 1000, "open": seconds}


def _ask(page: Page, text: str) -> None:
    answers = page.locator("article.answer")
    before = answers.count()
    page.get_by_placeholder("Ask the herd").fill(text)
    page.get_by_placeholder("Ask the herd").press("Enter")
    expect(answers).to_have_count(before + 1)


def _ended(page: Page) -> None:
    expect(page.locator("article.answer").last).to_have_attribute("aria-busy", "false")


def _typing(page: Page, tokens: int) -> dict[str, float]:
    """Latencies of keys that are pressed from an answer's first word to its last."""

    def lengthen(route: Route) -> None:
        body: dict[str, Any] = route.request.post_data_json or {}
        more = {"ignore_eos": True, "max_tokens": tokens, "seed": 1}
        route.continue_(post_data=body | more)

    page.route("**/v1/chat/completions", lengthen)
    _ask(page, ARTICLE)
    page.locator("article.answer").last.locator(".prose").wait_for()
    page.evaluate(WATCH_KEYS)
    page.get_by_placeholder("Ask the herd").focus()
    busy = page.locator("article.answer[aria-busy=true]")
    pressed = 0
    while busy.count():
        page.keyboard.type("llama "[pressed % 6])
        pressed += 1
        page.wait_for_timeout(KEY_PAUSE_MS)
    page.get_by_placeholder("Ask the herd").fill("")
    latencies: list[float] = sorted(page.evaluate("latencies"))
    if len(latencies) < 50:
        raise BenchError(f"only {len(latencies)} keys were pressed: the answer was too short")
    return {
        "key": median(latencies),
        "key_p99": latencies[len(latencies) * 99 // 100],
        "key_worst": latencies[-1],
    }


def _fill(page: Page, url: str, options: argparse.Namespace) -> None:
    """Many chats, and a long one."""
    then = 1_700_000_000.0
    said = {"id": "a", "parent": None, "role": "user", "created": then}
    chats = [
        {
            "title": f"Chat {number}",
            "created": then + number,
            "updated": time.time() + number,
            "messages": [said | {"content": f"What is word{number}x?"}],
        }
        for number in range(options.chats)
    ]
    messages = [
        {
            "id": str(number),
            "parent": str(number - 1) if number else None,
            "role": "assistant" if number % 2 else "user",
            "content": f"Message {number} with **some** words.",
            "created": then + number,
        }
        for number in range(options.messages)
    ]
    long = {"title": "Long", "pinned": True, "created": then, "updated": then, "messages": messages}
    file = {"format": "corral-chats", "version": 1, "chats": [*chats, long]}
    answer = page.request.post(f"{url}/ui/import", data=file, timeout=options.timeout * 1000)
    if not answer.ok:
        raise BenchError(f"the chats were refused: {answer.text()}")
