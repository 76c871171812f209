"""The report: a page that needs nothing but itself, Markdown with its plots, the figures as JSON.

Answers come from models and may say anything. In HTML everything is escaped by the template engine,
and the page's own policy allows no script, form or request; in Markdown answers stand in fenced
blocks that are longer than any fence in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation import plots
from evaluation.figures import ALL, Match, Results, Sample
from evaluation.intervals import Interval
from evaluation.items import CATEGORIES, LANGUAGES
from evaluation.plots import Row, percent

_TEMPLATES: Final = Path(__file__).parent / "templates"
_SHOWN = 3000  # characters of an answer


def write_report(results: Results, folder: Path) -> None:
    """Write ``report.html``, ``report.md`` with ``plots/``, and ``report.json``."""
    charts = {name: (title, svg) for name, title, svg in _charts(results)}
    (folder / "report.html").write_text(as_html(results, charts), "utf-8")
    pictures = folder / "plots"
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.svg"):
        old.unlink()
    for name, (_, svg) in charts.items():
        # By itself a picture has no page whose colours it could take.
        alone = svg.replace("<svg ", '<svg style="color:#222;background:#fff" ', 1)
        (pictures / f"{name}.svg").write_text(alone + "\n", "utf-8")
    (folder / "report.md").write_text(as_markdown(results, charts), "utf-8")
    figures = json.dumps(as_figures(results), ensure_ascii=False, indent=1)
    (folder / "report.json").write_text(figures + "\n", "utf-8")


def as_html(results: Results, charts: dict[str, tuple[str, str]]) -> str:
    """The page."""
    environment = _environment(autoescape=True)
    style = Markup((_TEMPLATES / "report.css").read_text("utf-8"))  # noqa: S704 - ours
    safe = {name: (title, Markup(svg)) for name, (title, svg) in charts.items()}  # noqa: S704
    return environment.get_template("report.html.jinja").render(
        _view(results) | {"charts": safe, "style": style}
    )


def as_markdown(results: Results, charts: dict[str, tuple[str, str]]) -> str:
    """The same for a repository or a pull request."""
    template = _environment(autoescape=False).get_template("report.md.jinja")
    text = template.render(_view(results) | {"charts": charts})
    return re.sub(r"\n{3,}", "\n\n", text)


def as_figures(results: Results) -> dict[str, Any]:
    """Every figure, for programs; answers and verdicts are in ``results.jsonl``."""
    return {
        "about": results.about,
        "baseline": results.baseline,
        "rates": _plain(results.rates),
        "ended": _plain(results.ended),
        "differences": _plain(results.differences),
        "choices": _plain(results.chosen),
        "held_out": {
            model: asdict(loss) | {"perplexity": asdict(loss.perplexity)}
            for model, loss in results.loss.items()
        },
        "matches": [asdict(match) for match in results.matches],
        "scores": [
            {
                "task": sample.task.name,
                "item": sample.item.id,
                "scores": {model: given.score for model, given in sample.answers.items()},
            }
            for sample in results.samples
        ],
        "notes": results.notes,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return asdict(value)


def _view(results: Results) -> dict[str, Any]:
    """What both templates need."""
    categories = [
        name for name in CATEGORIES if any(name in rates for rates in results.rates.values())
    ]
    return {
        "results": results,
        "models": results.models,
        "categories": [*categories, *([ALL] if categories else [])],
        "languages": [
            code for code in LANGUAGES if any(s.task.language == code for s in results.samples)
        ],
        "language_names": LANGUAGES,
        "ALL": ALL,
        "about": {name: value for name, value in results.about.items() if value not in (None, [])},
        "groups": _groups(results.samples),
        "choice_tasks": sorted({name for one in results.chosen.values() for name in one}),
        "shown": _SHOWN,
    }


def _groups(samples: list[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.task.name, []).append(sample)
    return groups


def _charts(results: Results) -> Iterator[tuple[str, str, str]]:
    """Name, title and picture of each plot that there are figures for."""
    models = list(results.models)
    scale = plots.rates()
    for language, name in LANGUAGES.items():
        rows = [
            Row(category, [results.rates[m].get(category, {}).get(language) for m in models])
            for category in (*CATEGORIES, ALL)
        ]
        rows = [row for row in rows if any(row.points)]
        if rows:
            title = f"Right answers, {name}"
            yield f"rates-{language}", title, plots.dots(title, models, rows, scale)
    if results.ended:
        rows = [Row(model, [results.ended.get(model)]) for model in models]
        title = "Answers that ended by themselves"
        yield "ended", title, plots.dots(title, ["ended"], rows, scale)
    if rows := [
        Row(
            name,
            [
                results.chosen[model][name].plain if name in results.chosen[model] else None
                for model in models
            ],
        )
        for name in sorted({name for one in results.chosen.values() for name in one})
    ]:
        chance = next(c.chance for one in results.chosen.values() for c in one.values())
        title = "Choices by likelihood"
        yield "choices", title, plots.dots(title, models, rows, plots.rates(chance))
    yield from _loss_chart(results)
    if rows := [Row(_pair(results, match), [match.win]) for match in results.matches if match.win]:
        title = "Wins before the judge, ties as half"
        yield "matches", title, plots.dots(title, ["win rate"], rows, plots.rates(0.5))


def _pair(results: Results, match: Match) -> str:
    """Who is compared; with whom goes without saying where that is always the same."""
    several = len({other.other for other in results.matches}) > 1
    return f"{match.one} – {match.other}" if several else match.one


def _loss_chart(results: Results) -> Iterator[tuple[str, str, str]]:
    losses = results.loss
    if not losses:
        return
    rows = [Row(model, [losses[model].text]) for model in results.models if model in losses]
    title = "Loss on held-out answers, nats a token"
    scale = plots.fitting(rows, lambda value: f"{value:.2f}")
    yield "held-out", title, plots.dots(title, ["loss"], rows, scale)


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,  # noqa: S701 - off for Markdown, which has escapes of its own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "rate": _interval(percent),
        "nats": _interval(lambda value: f"{value:.3f}"),
        "one": _interval(lambda value: f"{value:.1f}"),
        "points": _interval(lambda value: f"{100 * value:+.0f}".replace("-", "−")),
        "signed": _interval(lambda value: f"{value:+.3f}".replace("-", "−")),
        "p": _p,
        "fenced": fenced,
        "cell": cell,
    }
    return environment


def _interval(show: Callable[[float], str]) -> Callable[[Interval | None], str]:
    def text(interval: Interval | None) -> str:
        if interval is None:
            return "–"
        return f"{show(interval.value)} ({show(interval.low)} to {show(interval.high)})"

    return text


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def fenced(text: str) -> str:
    """A Markdown block that shows any text as it is: its fence is longer than those in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def cell(text: object) -> str:
    """Text for a table's cell or a line of Markdown: one line, and no marks of Markdown or HTML."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#|~!<>&])", r"\\\1", line)
