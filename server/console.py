"""What people see while work goes on: one set of progress bars, and plain lines where none fit.

Must not know what the work is: models, engines and the registry are its callers' business.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

# Progress and notices go to stderr, so that stdout stays what was asked for.
err = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)

# A stage is written to a plain log only when it lasts: what is over at once is not news.
_LASTS_S = 0.5
# Columns from which on there is room for a speed.
_WIDE = 120


class _Bar(BarColumn):
    """A bar where the length is known; elsewhere the spinner and the clock say enough."""

    def render(self, task: Task) -> Any:
        return super().render(task) if task.total is not None else Text("")


class _Amount(ProgressColumn):
    """``12.3 MB of 97.6 MB`` for bytes, ``5 of 272`` for things, nothing if unknown."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(decimal(int(task.completed)) if task.completed else "")
        if task.fields["unit"] != "B":
            return Text(f"{int(task.completed)} of {int(task.total)}")
        return Text(f"{decimal(int(task.completed))} of {decimal(int(task.total))}")


class _Speed(ProgressColumn):
    """``8.1 MB/s`` while bytes flow."""

    def render(self, task: Task) -> Text:
        if task.total is None or task.fields["unit"] != "B" or not task.speed:
            return Text("")
        return Text(f"{decimal(int(task.speed))}/s")


def columns(
    console: Console, rows: Sequence[Sequence[str]], *, header: bool = False, indent: str = ""
) -> None:
    """Print rows as aligned columns; only the last is cut, and only where a terminal is too narrow.

    Args:
        console: Where to print.
        rows: Cells; the first of each row is what it is about.
        header: Whether the first row names the columns.
        indent: Put before each row.
    """
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        *cells, last = row
        lead = indent + "".join(
            set_cell_size(cell, width) + "  " for cell, width in zip(cells, widths, strict=False)
        )
        line = Text(lead + last)
        if console.is_terminal and cell_len(lead) + 12 <= console.width:
            line.truncate(console.width, overflow="ellipsis")
        style = "dim" if header and number == 0 else ""
        if style:
            line.stylize(style)
        else:
            line.stylize("bold", len(indent), len(indent) + len(row[0]))
        line.rstrip()
        console.print(line, soft_wrap=True)


class Board:
    """Every bar of this process in one display; rich draws only one at a time.

    Safe to use from several threads. Where stderr is no terminal, one line a stage instead.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._last_line: dict[str, str] = {}

    def add(self, name: str, stage: str, total: int | None, unit: str) -> TaskID | None:
        """Draw a bar; returns its id, or None where a line was printed instead."""
        with self._lock:
            if not self._console.is_terminal:
                self.line(name, stage)
                return None
            if self._progress is None:
                self._progress = self._new_progress()
                self._progress.start()
            title = Text(f"{name}: {stage}")
            # What is left of the line beside bar, amount and clock, so that it never breaks.
            title.truncate(max(16, self._console.width - 46), overflow="ellipsis")
            return self._progress.add_task(title.plain, total=total, unit=unit)

    def advance(self, task: TaskID | None, amount: int) -> None:
        """Move a bar on."""
        if task is not None and self._progress is not None:
            self._progress.advance(task, amount)

    def remove(self, task: TaskID | None) -> None:
        """Take a bar away."""
        with self._lock:
            if task is None or self._progress is None:
                return
            self._progress.remove_task(task)
            if not self._progress.tasks:
                self._progress.stop()
                self._progress = None

    def close(self) -> None:
        """Take every bar away and give the terminal its cursor back."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    def line(self, name: str, text: str) -> None:
        """Print a plain line about ``name`` unless it was the last one about it."""
        if self._last_line.get(name) != text:
            self._last_line[name] = text
            self._console.print(Text(f"{name}: {text}"), soft_wrap=True)

    def _new_progress(self) -> Progress:
        speed = [_Speed()] if self._console.width >= _WIDE else []
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Bar(bar_width=12),
            _Amount(),
            *speed,
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=5,  # drawing competes with the imports of a start
        )


board = Board(err)


class FetchBars:
    """`registry.progress.Progress` of one model's files."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Begin a stage; ``unit`` "B" draws sizes and speed."""
        self.finish()
        self._task = board.add(self._model, stage, total, unit)

    def advance(self, amount: int) -> None:
        """So much more is done."""
        board.advance(self._task, amount)

    def finish(self) -> None:
        """The stage is done."""
        board.remove(self._task)
        self._task = None


@dataclass(slots=True)
class StageLine:
    """A stage of unknown length: a spinner with its elapsed time, or a line if it lasts.

    Args:
        name: What the stages belong to.
    """

    name: str
    _stage: str = ""
    _since: float = 0.0
    _task: TaskID | None = None
    _printed: bool = False

    def show(self, stage: str, now: float) -> None:
        """Say what is being done; call it again and again, ``now`` in seconds."""
        if stage != self._stage:
            self.end()
            self._stage, self._since = stage, now
            if err.is_terminal:
                self._task = board.add(self.name, stage, None, "")
        if self._task is None and not self._printed and now - self._since >= _LASTS_S:
            self._printed = True
            board.line(self.name, stage)

    def end(self) -> None:
        """Nothing is being done any more."""
        board.remove(self._task)
        self._stage, self._task, self._printed = "", None, False
