"""What people see in the terminal: progress bars, the start screen, tables."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# Progress and notices go to stderr, so that stdout stays what was asked for.
err = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)


class FetchBars:
    """`registry.progress.Progress` drawn by rich; on a plain log, one line a stage."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Begin a stage; ``unit`` "B" draws sizes and speed."""
        self.finish()
        if not err.is_terminal:
            err.print(f"{self._model}: {stage}")
            return
        counts = (
            (DownloadColumn(), TransferSpeedColumn()) if unit == "B" else (MofNCompleteColumn(),)
        )
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
        )
        self._bar.start()
        self._task = self._bar.add_task(f"{self._model}: {stage}", total=total)

    def advance(self, amount: int) -> None:
        """So much more is done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, amount)

    def finish(self) -> None:
        """The stage is done."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
