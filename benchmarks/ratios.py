"""Figures of several rounds, their ratios and the limits these must keep. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "≥": operator.ge,
    "≤": operator.le,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """What a ratio must keep.

    Args:
        sign: ``≥``, ``≤`` or ``<``.
        value: Compared with the median ratio.
    """

    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"

    def keeps(self, ratio: float) -> bool:
        """Whether `ratio` is within the limit."""
        return _COMPARE[self.sign](ratio, self.value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of two subjects, measured in turn.

    Args:
        label: What was compared, one string a column of the table's left side.
        ours: One value a round.
        theirs: One value a round, the i-th measured beside ours.
        limit: For the ratio; None only reports.
        digits: Decimals shown of the values.
    """

    label: tuple[str, ...]
    ours: Sequence[float]
    theirs: Sequence[float]
    limit: Limit | None = None
    digits: int = 1

    @property
    def ratios(self) -> list[float]:
        """Ours / theirs, round by round (both met the same state of the machine)."""
        return [a / b if b else float("inf") for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """The median ratio, which the limit is about."""
        return median(self.ratios)

    @property
    def kept(self) -> bool:
        """Whether the limit is kept; True without one."""
        return self.limit is None or self.limit.keeps(self.ratio)

    def row(self) -> list[str]:
        """Label, medians of both, ratio with spread, limit, verdict."""
        low, high = min(self.ratios), max(self.ratios)
        spread = f" ({low:.2f}–{high:.2f})" if len(self.ratios) > 1 else ""
        return [
            *self.label,
            f"{median(self.ours):.{self.digits}f}",
            f"{median(self.theirs):.{self.digits}f}",
            f"{self.ratio:.2f}{spread}",
            str(self.limit or ""),
            "" if self.limit is None else ("kept" if self.kept else "**missed**"),
        ]


def missed(comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each limit that was not kept."""
    return [
        f"{', '.join(one.label)}: ratio {one.ratio:.2f}, limit {one.limit}"
        for one in comparisons
        if not one.kept
    ]
