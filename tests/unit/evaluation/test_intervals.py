"""Intervals against values from the literature, and against what must hold of any interval."""

from __future__ import annotations

import math

import pytest

from evaluation.intervals import (
    Interval,
    bootstrap,
    mcnemar,
    mean,
    rate_difference,
    ratio,
    ratio_difference,
    wilson,
)


def rounded(interval: Interval) -> tuple[float, float, float]:
    return (round(interval.value, 4), round(interval.low, 4), round(interval.high, 4))


# Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson(successes, n)
    assert rounded(interval) == (round(successes / n, 4), low, high)
    mirrored = wilson(n - successes, n)
    assert mirrored.low == pytest.approx(1 - interval.high)
    assert interval.n == n


@pytest.mark.parametrize("successes", [0, 1, 7, 10])
def test_a_rate_is_inside_its_interval(successes: int) -> None:
    interval = wilson(successes, 10)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize(
    ("both", "ours", "theirs", "neither", "low", "high"),
    [
        (36, 12, 2, 0, 0.0569, 0.3404),
        (20, 12, 2, 16, 0.0562, 0.3292),
        (53, 0, 1, 0, -0.0977, 0.0496),
    ],
)
def test_differences_of_rates(
    both: int, ours: int, theirs: int, neither: int, low: float, high: float
) -> None:
    pairs = [(1, 1)] * both + [(1, 0)] * ours + [(0, 1)] * theirs + [(0, 0)] * neither
    one, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = rate_difference(one, other)
    assert rounded(found) == (round((ours - theirs) / len(pairs), 4), low, high)
    # Neither who comes first nor what counts as success makes a difference.
    turned = rate_difference(other, one)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    failures = rate_difference([1 - score for score in one], [1 - score for score in other])
    assert failures.low == pytest.approx(turned.low)


def test_differences_where_nothing_differs() -> None:
    found = rate_difference([1, 1, 0], [1, 1, 0])
    assert found.value == 0
    assert found.low < 0 < found.high
    assert -found.low == pytest.approx(found.high)


def test_differences_of_fractions_are_drawn_in_pairs() -> None:
    found = rate_difference([0.5, 0.75, 1.0], [0.25, 0.5, 0.75])
    assert rounded(found) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        ([1] * 5, [0] * 5, 2 / 32),
        ([1, 0], [0, 1], 1.0),
        ([1, 1], [1, 1], 1.0),
        ([1] * 10, [0] * 10, 2 / 1024),
    ],
)
def test_mcnemar(ours: list[float], theirs: list[float], p: float) -> None:
    assert mcnemar(ours, theirs) == pytest.approx(p)


def test_a_bootstrap_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    values = [float(value % 7) for value in range(40)]
    assert mean(values) == mean(values)
    assert mean(values, seed=1) != mean(values)


def test_a_mean_has_about_the_interval_of_a_normal_one() -> None:
    values = [float(value) for value in range(100)]
    found = mean(values)
    deviation = math.sqrt(sum((value - 49.5) ** 2 for value in values) / 100)
    half = 1.96 * deviation / 10
    assert found.value == 49.5
    assert found.low == pytest.approx(49.5 - half, abs=0.8)
    assert found.high == pytest.approx(49.5 + half, abs=0.8)


def test_a_ratio_counts_tokens_and_draws_texts() -> None:
    # A long text weighs more than a short one.
    assert ratio([(10.0, 10), (90.0, 30)]).value == 2.5
    found = ratio([(10.0, 10), (30.0, 10)])
    assert (found.low, found.high) == (1.0, 3.0)


def test_a_difference_of_ratios_is_narrower_than_its_parts() -> None:
    ours = [(float(number), 10.0) for number in range(10, 60)]
    theirs = [(float(number) + 1, 10.0) for number in range(10, 60)]
    found = ratio_difference(ours, theirs)
    assert rounded(found) == (-0.1, -0.1, -0.1)


def test_the_statistic_sees_whole_items() -> None:
    items = [(1.0, 2.0), (3.0, 4.0)]
    seen = []

    def statistic(drawn: object) -> float:
        assert isinstance(drawn, list)
        seen.extend(drawn)
        return 0.0

    bootstrap(items, statistic, resamples=20)
    assert {*seen} == {*items}
