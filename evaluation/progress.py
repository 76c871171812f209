"""What people see of a run: a bar where there is a terminal, else a line a stage."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Screen:
    """Progress on stderr, so that stdout stays free for what was asked for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin(self, what: str, total: int, done: int) -> None:
        """See `jobs.Progress`."""
        self._bar = self._bars.add_task(what, total=total, completed=done)
        if not self._console.is_terminal:
            kept = f", {done} of them known" if done else ""
            self.note(f"{what}: {total}{kept}")

    def advance(self) -> None:
        """See `jobs.Progress`."""
        if self._bar is not None:
            self._bars.advance(self._bar)

    def note(self, text: str) -> None:
        """See `jobs.Progress`."""
        self._console.print(Text(text), soft_wrap=True)
