"""The report: nothing that a model says gets out of its place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from evaluation.figures import Chosen, Difference, Given, Loss, Match, Results, Sample
from evaluation.intervals import Interval
from evaluation.items import Item, Rules, Task
from evaluation.report import cell, fenced, write_report
from evaluation.scoring import Verdict

EVIL = (
    "</pre></div><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
    "<style>body{display:none}</style>{{ 7*7 }}{% raw %}\n```\n# Heading\n````\n"
    '<iframe srcdoc="x"></iframe>]]>&lt;'
)
HALF = Interval(0.5, 0.25, 0.75, 8)


def results(model: str = "m", said: str = "Fine.") -> Results:
    item = Item(id="x", prompt=said, score=Rules(number=1), judge=True, reference=said)
    task = Task(category="code", language="en", items=[item])
    given = Given(said, "length", None, (Verdict(0.0, (said,)),))
    rates = {"code": {"en": HALF, "all": HALF}, "all": {"en": HALF, "all": HALF}}
    loss = Loss(HALF, None, HALF, 99, HALF)
    return Results(
        models=(model, "base"),
        baseline="base",
        samples=[Sample(task, item, {model: given, "base": given})],
        rates={model: rates, "base": rates},
        ended={model: HALF},
        differences={model: {"code": Difference(HALF, 0.04), "all": Difference(HALF, None)}},
        chosen={model: {"choices-x/en": Chosen(HALF, HALF, "own", 0.25)}, "base": {}},
        loss={model: loss, "base": loss},
        matches=[Match(model, "base", HALF, 3, 1, 4, 2, 1, HALF)],
        notes=[said],
        about={"models": [model, "base"], "judge": said, "asked": ["now"], "limit": None},
    )


class Elements(HTMLParser):
    """Counts elements, and keeps attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def page(folder: Path, *args: str) -> str:
    write_report(results(*args), folder)
    return (folder / "report.html").read_text("utf-8")


def test_what_models_say_adds_no_element(tmp_path: Path) -> None:
    harmless = Elements(page(tmp_path, "m", "Fine."))
    evil = Elements(page(tmp_path, "m", EVIL))
    assert evil.tags == harmless.tags
    assert not {"script", "iframe", "img", "link", "object", "form"} & {*evil.tags}
    names = {name for name, _ in evil.attributes}
    assert not [name for name in names if name.startswith("on")]


def test_names_of_models_are_text_too(tmp_path: Path) -> None:
    name = "<b onclick=x>\"'&"
    text = page(tmp_path, name)
    assert Elements(text).tags == Elements(page(tmp_path, "m")).tags
    for path in (tmp_path / "plots").glob("*.svg"):
        ET.fromstring(path.read_text("utf-8"))


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    text = page(tmp_path, "m", "Fine.")
    assert "default-src 'none'" in text
    addresses = {*re.findall(r"https?://[^\s\"'<]+", text)}
    # The name of a format, which nobody fetches.
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(?:src|href|url)\s*[=(]", text)


def test_figures_are_in_all_forms(tmp_path: Path) -> None:
    text = page(tmp_path)
    markdown = (tmp_path / "report.md").read_text("utf-8")
    for form in (text, markdown):
        assert "50 % (25 % to 75 %)" in form  # rates
        assert "+50 (+25 to +75)" in form  # differences, in points
        assert "0.040" in form  # p
        assert "0.500 (0.250 to 0.750)" in form  # loss
        assert "1.6 (1.3 to 2.1)" in form  # perplexity
    assert "cut off" in text
    names = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert names == {"rates-en", "ended", "choices", "held-out", "matches"}
    assert {*re.findall(r"\]\(plots/([a-z-]+)\.svg\)", markdown)} == names


def test_plots_of_an_earlier_report_go(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "old.svg").write_text("x")
    page(tmp_path)
    assert not (tmp_path / "plots" / "old.svg").exists()


def test_what_models_say_adds_nothing_to_markdown(tmp_path: Path) -> None:
    def kinds(said: str) -> list[str]:
        write_report(results("m", said), tmp_path)
        text = (tmp_path / "report.md").read_text("utf-8")
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        inside = [child for token in tokens for child in token.children or ()]
        shown = [token.type for token in (*tokens, *inside)]
        # Text is one token or several, as it has escapes or not.
        return [kind for kind in shown if kind not in ("text", "text_special", "softbreak")]

    assert kinds(EVIL) == kinds("Fine.")
    assert not [kind for kind in kinds(EVIL) if "html" in kind]


@pytest.mark.parametrize(
    ("text", "fence"), [("a", "```"), ("```", "````"), ("a `````` b", "```````")]
)
def test_fences_are_longer_than_those_inside(text: str, fence: str) -> None:
    assert fenced(text) == f"{fence}text\n{text}\n{fence}"


@pytest.mark.parametrize(
    ("p", "shown"), [(None, "–"), (0.0004, "&lt; 0.001"), (0.001, "0.001"), (1.0, "1.000")]
)
def test_small_ps_are_not_nothing(p: float | None, shown: str, tmp_path: Path) -> None:
    given = results()
    given.differences = {"m": {"code": Difference(HALF, p), "all": Difference(HALF, p)}}
    write_report(given, tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8").count(f"<td>{shown}</td>") >= 2


def test_cells_are_one_line_of_text() -> None:
    assert cell("a|b\n# <i>*c*") == r"a\|b \# \<i\>\*c\*"
