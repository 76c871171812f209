"""Dots with whiskers, as SVG that needs nothing else. Everything written into it is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from evaluation.intervals import Interval

# Okabe and Ito's colours, which people who see colours differently can tell apart too; so can a
# printer, by the marks' shapes.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_WIDTH, _LEFT, _RIGHT, _ROW, _GAP, _TOP = 600, 158, 26, 14, 12, 14
_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A label and an interval of each series; None where there is none."""

    label: str
    points: Sequence[Interval | None]


@dataclass(frozen=True, slots=True)
class Scale:
    """What the horizontal axis shows.

    Args:
        show: A value as text.
        mark: Where a dashed line stands, such as chance, or no difference.
    """

    low: float
    high: float
    show: Callable[[float], str]
    mark: float | None = None

    def place(self, value: float) -> float:
        """Pixels from the left."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def percent(value: float) -> str:
    """``37 %``."""
    return f"{value:.0%}".replace("%", " %")


def fitting(rows: Sequence[Row], show: Callable[[float], str], mark: float | None = None) -> Scale:
    """A scale that holds every interval, with some room beside it."""
    ends = [end for row in rows for point in row.points if point for end in (point.low, point.high)]
    ends += [mark] if mark is not None else []
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.06 or 0.5
    return Scale(low - room, high + room, show, mark)


def dots(title: str, series: Sequence[str], rows: Sequence[Row], scale: Scale) -> str:
    """A chart: one block a row, one line a series in it."""
    block = _ROW * len(series) + _GAP
    bottom = _TOP + block * len(rows)
    legend = 0 if len(series) == 1 else 22
    height = bottom + 26 + legend
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13" '
        'fill="currentColor">',
        f"<title>{escape(title)}</title>",
        *_axis(scale, bottom),
    ]
    for number, row in enumerate(rows):
        top = _TOP + block * number
        middle = top + (block - _GAP) / 2
        parts.append(
            f'<text x="{_LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(row.label)}'
            "</text>"
        )
        for index, point in enumerate(row.points):
            if point is not None:
                y = top + _ROW * (index + 0.5)
                parts.append(_dot(point, y, index, scale, f"{row.label}, {series[index]}"))
    if legend:
        parts += _legend(series, bottom + 40)
    return "".join([*parts, "</svg>"])


def _axis(scale: Scale, bottom: float) -> list[str]:
    parts = []
    for tick in range(_TICKS + 1):
        value = scale.low + (scale.high - scale.low) * tick / _TICKS
        x = scale.place(value)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}" '
            'stroke="currentColor" stroke-opacity="0.14"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill-opacity="0.75">'
            f"{escape(scale.show(value))}</text>"
        )
    if scale.mark is not None:
        x = scale.place(scale.mark)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}" '
            'stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="4 3"/>'
        )
    return parts


def _dot(point: Interval, y: float, index: int, scale: Scale, label: str) -> str:
    colour = COLOURS[index % len(COLOURS)]
    low, high, x = (scale.place(value) for value in (point.low, point.high, point.value))
    said = f"{label}: {describe(point, scale.show)}"
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


def _legend(series: Sequence[str], y: float) -> list[str]:
    parts = []
    x = 12.0
    for index, name in enumerate(series):
        parts.append(_mark(index, x, y, COLOURS[index % len(COLOURS)]))
        parts.append(f'<text x="{x + 10:.0f}" y="{y + 4}">{escape(name)}</text>')
        x += 26 + 7.2 * len(name)
    return parts


def describe(point: Interval, show: Callable[[float], str]) -> str:
    """``37 % (30 % to 44 %), n 118``."""
    return f"{show(point.value)} ({show(point.low)} to {show(point.high)}), n {point.n}"
