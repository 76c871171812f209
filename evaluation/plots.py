"""Dots with whiskers, as SVG that needs nothing else. Everything written into it is escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from evaluation.intervals import Interval

# Okabe and Ito's colours, which people who see colours differently can tell apart too; so can a
# printer, by the marks' shapes.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_WIDTH, _RIGHT, _ROW, _GAP, _TOP = 600, 26, 14, 12, 14
_LEGEND_ROW = 22
# Pixels of a character of 13 pixels' height: a little more than most fonts take.
_CHARACTER = 7.3
_TICKS: Final = 6


@dataclass(frozen=True, slots=True)
class Row:
    """A label and an interval of each series; None where there is none."""

    label: str
    points: Sequence[Interval | None]


@dataclass(frozen=True, slots=True)
class Scale:
    """What the horizontal axis shows.

    Args:
        step: Between its lines.
        show: A value as text.
        mark: Where a dashed line stands, such as chance, or no difference.
    """

    low: float
    high: float
    step: float
    show: Callable[[float], str]
    mark: float | None = None

    def place(self, value: float, left: float) -> float:
        """Pixels from the picture's left, where the axis begins at ``left``."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return left + share * (_WIDTH - left - _RIGHT)

    @property
    def ticks(self) -> list[float]:
        """Where its lines are."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [number * self.step for number in range(first, last + 1)]


def percent(value: float) -> str:
    """``37 %``."""
    return f"{value:.0%}".replace("%", " %")


def rates(mark: float | None = None) -> Scale:
    """From nothing to all."""
    return Scale(0.0, 1.0, 0.2, percent, mark)


def fitting(rows: Sequence[Row], show: Callable[[float], str]) -> Scale:
    """A scale that holds every interval, with some room beside it."""
    ends = [end for row in rows for point in row.points if point for end in (point.low, point.high)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.06 or 0.5
    low, high = low - room, high + room
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    return Scale(low, high, step, show)


def dots(title: str, series: Sequence[str], rows: Sequence[Row], scale: Scale) -> str:
    """A chart: one block a row, one line a series in it."""
    left = min(_WIDTH / 2, 24 + _CHARACTER * max(len(row.label) for row in rows))
    block = _ROW * len(series) + _GAP
    bottom = _TOP + block * len(rows)
    names = [] if len(series) == 1 else _legend(series)
    height = bottom + 26 + _LEGEND_ROW * (1 + max((line for line, _, _ in names), default=-1))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13" '
        'fill="currentColor">',
        f"<title>{escape(title)}</title>",
        *_axis(scale, left, bottom),
    ]
    for number, row in enumerate(rows):
        top = _TOP + block * number
        middle = top + (block - _GAP) / 2
        parts.append(
            f'<text x="{left - 12:.1f}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{escape(row.label)}</text>"
        )
        for index, point in enumerate(row.points):
            if point is not None:
                said = f"{row.label}, {series[index]}: {describe(point, scale.show)}"
                ends = [scale.place(x, left) for x in (point.low, point.value, point.high)]
                parts.append(_dot(ends, top + _ROW * (index + 0.5), index, said))
    for index, (line, x, name) in enumerate(names):
        y = bottom + 40 + _LEGEND_ROW * line
        parts.append(_mark(index, x, y, COLOURS[index % len(COLOURS)]))
        parts.append(f'<text x="{x + 10:.0f}" y="{y + 4:.0f}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def _axis(scale: Scale, left: float, bottom: float) -> list[str]:
    parts = []
    for value in scale.ticks:
        x = scale.place(value, left)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}" '
            'stroke="currentColor" stroke-opacity="0.14"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill-opacity="0.75">'
            f"{escape(scale.show(value))}</text>"
        )
    if scale.mark is not None:
        x = scale.place(scale.mark, left)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}" '
            'stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="4 3"/>'
        )
    return parts


def _dot(places: Sequence[float], y: float, index: int, said: str) -> str:
    colour = COLOURS[index % len(COLOURS)]
    low, x, high = places
    return (
        f"<g><title>{escape(said)}</title>"
        f'<line x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}" stroke="{colour}" '
        'stroke-width="2" stroke-opacity="0.55"/>'
        f"{_mark(index, x, y, colour)}</g>"
    )


def _mark(index: int, x: float, y: float, colour: str) -> str:
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>',
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>',
        f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5-5.5 5.5-5.5-5.5z" fill="{colour}"/>',
        f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{colour}"/>',
    )
    return shapes[index % len(shapes)]


def _legend(series: Sequence[str]) -> list[tuple[int, float, str]]:
    """Line, place from the left, and name of each series."""
    places = []
    line, x = 0, 12.0
    for name in series:
        width = 36 + _CHARACTER * len(name)
        if x > 12 and x + width > _WIDTH:
            line, x = line + 1, 12.0
        places.append((line, x, name))
        x += width
    return places


def describe(point: Interval, show: Callable[[float], str]) -> str:
    """``37 % (30 % to 44 %), n 118``."""
    return f"{show(point.value)} ({show(point.low)} to {show(point.high)}), n {point.n}"
