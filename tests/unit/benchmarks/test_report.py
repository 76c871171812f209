"""Tables, and sections of RESULTS.md between markers."""

import json
from pathlib import Path

import pytest

from benchmarks import machine, report
from benchmarks.cli import MEASUREMENTS
from benchmarks.errors import BenchError
from benchmarks.report import Report, markdown_table, replace_section, shown_command

PAGE = """# Results

By hand, before.

<!-- one:begin -->

old

<!-- one:end -->

By hand, after.
"""


def test_table_is_aligned() -> None:
    assert markdown_table([["a", "long"], ["wide", "b"]]) == (
        "| a    | long |\n|------|------|\n| wide | b    |"
    )


def test_a_section_is_replaced_and_the_rest_is_kept() -> None:
    page = replace_section(PAGE, "one", "One", "new\n")
    assert page == PAGE.replace("old", "new")
    assert replace_section(page, "one", "One", "new") == page


def test_a_new_section_is_appended_with_its_heading() -> None:
    page = replace_section(PAGE, "two", "Two", "text")
    assert page == PAGE + "\n## Two\n\n<!-- two:begin -->\n\ntext\n\n<!-- two:end -->\n"
    assert replace_section(page, "two", "Two", "more").count("## Two") == 1


def test_a_section_whose_name_begins_another_is_left_alone() -> None:
    page = replace_section(PAGE, "one-more", "More", "text")
    assert "old" in replace_section(page, "one-more", "More", "changed")


@pytest.mark.parametrize(
    "page",
    [
        PAGE.replace("<!-- one:end -->", ""),
        PAGE.replace("<!-- one:begin -->", ""),
        PAGE + PAGE,
        "<!-- one:end -->\n<!-- one:begin -->",
    ],
)
def test_broken_markers_are_not_guessed_at(page: str) -> None:
    with pytest.raises(BenchError, match="one pair"):
        replace_section(page, "one", "One", "new")


def test_command_hides_where_things_lie() -> None:
    words = ["cold-start", "--registry", "/home/me/herd.yaml", "--clone=/tmp/a/b/", "--rounds=2"]
    assert shown_command(words) == (
        "python -m benchmarks cold-start --registry …/herd.yaml --clone=…/b --rounds=2"
    )


def test_write_puts_table_notes_and_raw_figures_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "describe", lambda: "a machine")
    monkeypatch.setattr(machine, "today", lambda: "2025-01-31")
    results = tmp_path / "RESULTS.md"
    results.write_text(PAGE, encoding="utf-8")
    found = Report("one", "One", [["a"], ["1"]], runs=[{"ttft_ms": 1.5}], notes=["A note."])
    report.write(found, "python -m benchmarks", results)
    expected = (
        "2025-01-31. a machine.\n\n    python -m benchmarks\n\n| a |\n|---|\n| 1 |\n\nA note."
    )
    assert results.read_text(encoding="utf-8") == PAGE.replace("old", expected)
    raw = json.loads((tmp_path / "results" / "one.json").read_text(encoding="utf-8"))
    assert raw == {
        "date": "2025-01-31",
        "machine": "a machine",
        "command": "python -m benchmarks",
        "runs": [{"ttft_ms": 1.5}],
    }


def test_write_makes_a_page_where_there_is_none(tmp_path: Path) -> None:
    report.write(Report("one", "One", [["a"], ["1"]]), "command", tmp_path / "new.md")
    assert (tmp_path / "new.md").read_text(encoding="utf-8").startswith("## One\n\n<!-- one:begin")


def test_the_shipped_page_has_a_place_for_every_measurement() -> None:
    page = report.RESULTS.read_text(encoding="utf-8")
    sections = {name for name, one in MEASUREMENTS.items() if one.writes} | {"throughput-chat"}
    for section in sections:
        assert replace_section(page, section, "x", "y").count("## x") == 0, section
