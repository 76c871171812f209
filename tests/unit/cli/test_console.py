"""Bars on a terminal, plain lines elsewhere, columns on both."""

import io
import re

import pytest
from rich.console import Console

from server import console
from server.console import Board, FetchBars, StageLine, columns


def on(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, width: int = 80) -> io.StringIO:
    """Have bars and lines drawn into the text that is returned."""
    text = io.StringIO()
    err = Console(file=text, force_terminal=terminal, width=width, highlight=False)
    monkeypatch.setattr(console, "err", err)
    monkeypatch.setattr(console, "board", Board(err))
    return text


def test_a_log_gets_one_line_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on(monkeypatch, terminal=False)
    bars = FetchBars("m")
    # The size of a download is known only after it has begun: the stage starts twice.
    for total in (None, 100):
        bars.start("download", total, "B")
        bars.advance(50)
        bars.finish()
    bars.start("convert", 7, "tensors")
    bars.finish()
    assert text.getvalue() == "m: download\nm: convert\n"


def test_a_terminal_gets_bars_that_never_break_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on(monkeypatch, terminal=True)
    bars, other = FetchBars("a-model-with-a-long-name"), FetchBars("b")
    bars.start("extract Something-Long-Indeed.gguf", 98_400_000, "B")
    bars.advance(49_200_000)
    other.start("wait", None, "")  # a second bar beside the first
    bars.finish()
    other.finish()
    drawn = text.getvalue()
    assert "49.2 MB of 98.4 MB" in drawn
    assert "b: wait" in drawn
    assert "\x1b[?25h" in drawn  # the cursor is back
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert max(map(len, re.split(r"[\r\n]", plain))) <= 80


def test_a_stage_is_logged_only_if_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on(monkeypatch, terminal=False)
    line = StageLine("m")
    line.show("reading files", 0.0)
    line.show("reading files", 0.2)
    line.show("loading", 0.3)
    line.show("loading", 1.0)
    line.show("loading", 9.0)
    line.end()
    assert text.getvalue() == "m: loading\n"


def test_a_stage_spins_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on(monkeypatch, terminal=True)
    line = StageLine("m")
    line.show("loading", 0.0)
    line.end()
    assert "m: loading" in text.getvalue()
    assert "━" not in text.getvalue()  # nobody knows how long it takes


ROWS = [("id", "what"), ("x", "a long description that goes on")]


def test_columns_are_whole_in_a_log() -> None:
    text = io.StringIO()
    columns(Console(file=text, width=10), ROWS, header=True)
    assert text.getvalue() == "id  what\nx   a long description that goes on\n"


def test_columns_cut_only_the_last_cell_on_a_terminal() -> None:
    text = io.StringIO()
    shown = Console(file=text, width=20, force_terminal=True, color_system=None)
    columns(shown, ROWS, indent="  ")
    assert text.getvalue().splitlines()[1] == "  x   a long descri…"
