"""Results as Markdown: tables, and sections of RESULTS.md between markers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.errors import BenchError

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


@dataclass(slots=True)
class Report:
    """What one measurement found.

    Args:
        section: Its section of RESULTS.md and its JSON file in ``results/``.
        title: Heading, used where the section is new.
        table: Header and rows.
        runs: Raw figures, ready for JSON.
        notes: Sentences below the table.
        missed: Limits that were not kept.
    """

    section: str
    title: str
    table: list[list[str]]
    runs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def body(self, head: str) -> str:
        """The section's text."""
        return "\n\n".join([head, markdown_table(self.table), *self.notes])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows (the first is the header) as a Markdown table with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    header, *body = (
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    )
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([header, rule, *body])


def replace_section(text: str, section: str, title: str, body: str) -> str:
    """`text` with the part between the section's markers replaced, or the section appended.

    Raises:
        BenchError: The markers are not one pair in order.
    """
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    block = f"{begin}\n\n{body.strip()}\n\n{end}"
    counts = (text.count(begin), text.count(end))
    if counts == (0, 0):
        return f"{text.rstrip()}\n\n## {title}\n\n{block}\n".lstrip()
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if counts != (1, 1) or not (found_begin and found_end):
        raise BenchError(f"the markers of section '{section}' must be one pair: {begin} … {end}")
    return before + block + after


def shown_command(arguments: Sequence[str]) -> str:
    """The command as a reader can repeat it; of absolute paths only the name is shown."""
    shown = [re.sub(r"^(--[\w-]+=)?/.*/([^/]+)/?$", r"\1…/\2", argument) for argument in arguments]
    return " ".join(["python -m benchmarks", *(map(_quote, shown))])


def _quote(argument: str) -> str:
    return argument if "…" in argument else shlex.quote(argument)


def head(command: str) -> str:
    """Date, machine and command of a section."""
    return f"{machine.today()}. {machine.describe()}.\n\n    {command}"


def write(report: Report, command: str, results: Path) -> None:
    """Put the report into `results` and its raw figures into the folder ``results`` beside it."""
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    new = replace_section(text, report.section, report.title, report.body(head(command)))
    results.write_text(new, encoding="utf-8")
    raw: Mapping[str, Any] = {
        "date": machine.today(),
        "machine": machine.describe(),
        "command": command,
        "runs": report.runs,
    }
    folder = results.parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{report.section}.json"
    path.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
