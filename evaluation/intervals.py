"""Intervals: pure functions over numbers, the same result for the same seed.

Rates get Wilson's score interval, means and ratios the percentiles of a bootstrap over items, and
differences between two models are taken item by item (Newcombe's method 10 for rates). All are for
95 % unless ``z`` or ``level`` says otherwise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, the ends of its interval, and the number of items behind it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int, z: float = Z95) -> Interval:
    """Wilson's score interval of a rate.

    Args:
        successes: May be fractional where a tie counts as half; the interval is then wider than it
            need be, because halves vary less than wins and losses do.
        n: Items, at least one.
    """
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # Rounding must not leave a rate of 0 or 1 outside its own interval.
    return Interval(rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)), n)


def bootstrap(
    items: Sequence[Sequence[float]],
    statistic: Callable[[Sequence[Sequence[float]]], float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a statistic over whole items.

    Args:
        items: One row an item: all that belongs together is drawn together.
        statistic: Of any such list.
    """
    draw = random.Random(seed)  # noqa: S311 - resampling, not secrets
    values = sorted(statistic(draw.choices(items, k=len(items))) for _ in range(max(1, resamples)))
    tail = (1 - level) / 2
    low, high = (values[min(len(values) - 1, int(len(values) * p))] for p in (tail, 1 - tail))
    value = statistic(items)
    return Interval(value, min(low, value), max(high, value), len(items))


def mean(values: Sequence[float], seed: int = 0) -> Interval:
    """A mean with its bootstrap interval."""
    rows = [(value,) for value in values]
    return bootstrap(rows, lambda drawn: sum(row[0] for row in drawn) / len(drawn), seed=seed)


def ratio(pairs: Sequence[tuple[float, float]], seed: int = 0) -> Interval:
    """Sum over sum, such as nats over tokens: tokens count the same, texts are drawn whole."""

    def over(drawn: Sequence[Sequence[float]]) -> float:
        return sum(row[0] for row in drawn) / sum(row[1] for row in drawn)

    return bootstrap(list(pairs), over, seed=seed)


def ratio_difference(
    ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]], seed: int = 0
) -> Interval:
    """Difference of two ratios over the same texts, which are drawn in pairs."""
    rows = [(*one, *other) for one, other in zip(ours, theirs, strict=True)]

    def difference(drawn: Sequence[Sequence[float]]) -> float:
        sums = [sum(row[column] for row in drawn) for column in range(4)]
        return sums[0] / sums[1] - sums[2] / sums[3]

    return bootstrap(rows, difference, seed=seed)


def rate_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """Difference of two models' scores on the same items.

    Newcombe's method 10 where every score is 0 or 1, else a bootstrap over pairs.

    Args:
        ours: Scores from 0 to 1, in the order of ``theirs``; at least one.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if any(score not in (0, 1) for pair in pairs for score in pair):
        return mean([one - other for one, other in pairs], seed)
    both, only_ours, only_theirs = (pairs.count(kind) for kind in ((1, 1), (1, 0), (0, 1)))
    n = len(pairs)
    neither = n - both - only_ours - only_theirs
    first, second = wilson(both + only_ours, n), wilson(both + only_theirs, n)
    phi = _phi(both, only_ours, only_theirs, neither)
    value = first.value - second.value
    down = _newcombe(first.value - first.low, second.high - second.value, phi)
    up = _newcombe(first.high - first.value, second.value - second.low, phi)
    return Interval(value, max(-1.0, value - down), min(1.0, value + up), n)


def _newcombe(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))


def _phi(both: int, only_ours: int, only_theirs: int, neither: int) -> float:
    """Correlation of two models' successes, Newcombe's continuity correction included."""
    margins = (
        (both + only_ours) * (only_theirs + neither) * (both + only_theirs) * (only_ours + neither)
    )
    if not margins:
        return 0.0
    product: float = both * neither - only_ours * only_theirs
    n = both + only_ours + only_theirs + neither
    if product > 0:
        product = max(product - n / 2, 0.0)
    return product / math.sqrt(margins)


def mcnemar(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Exact two-sided p of McNemar's test: how likely such an uneven split of the items on which
    two models differ would be if neither was better."""
    pairs = list(zip(ours, theirs, strict=True))
    wins = sum(one > other for one, other in pairs)
    losses = sum(one < other for one, other in pairs)
    n = wins + losses
    tail: int = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**n))
