"""What goes wrong in training on purpose, each for the user's eyes."""

from __future__ import annotations

from collections.abc import Sequence

from server.errors import CorralError, Problem

_SHOWN = 20


class TrainingError(CorralError):
    """Training cannot go on; says why and what to do."""


class ExtraMissing(TrainingError):
    """The packages of the extra ``train`` are not installed."""

    exit_code = 69

    def __init__(self, package: str) -> None:
        super().__init__(
            f"Training needs the package '{package}', which is not installed. Install the extra: "
            "pip install 'corral[train]', or in a clone: make install-train"
        )


class Interrupted(TrainingError):
    """Somebody stopped the run; it can be resumed."""

    exit_code = 130


class _ManyProblems(TrainingError):
    """Carries every problem at once.

    Args:
        title: What has them, for people.
        problems: At least one, in order.
        more: How many more there are than are named.
    """

    def __init__(self, title: str, problems: Sequence[Problem], more: int = 0) -> None:
        self.problems = tuple(problems)
        count = len(problems) + more
        counted = "a problem" if count == 1 else f"{count} problems"
        shown = [f"  {problem}" for problem in problems[:_SHOWN]]
        hidden = count - len(shown)
        rest = [f"  and {hidden} more"] if hidden else []
        super().__init__("\n".join([f"{title} has {counted}:", *shown, *rest]))


class RecipeError(_ManyProblems):
    """The recipe file is wrong."""

    exit_code = 78


class DataError(_ManyProblems):
    """Rows of the data cannot be trained on."""

    exit_code = 65
