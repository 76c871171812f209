"""Ratios of rounds and their limits."""

import pytest

from benchmarks.ratios import Comparison, Limit, missed


@pytest.mark.parametrize(
    ("limit", "ratio", "kept"),
    [
        (Limit("≥", 1.4), 1.4, True),
        (Limit("≥", 1.4), 1.39, False),
        (Limit("≤", 0.7), 0.7, True),
        (Limit("≤", 0.7), 0.71, False),
        (Limit("<", 1.0), 0.99, True),
        (Limit("<", 1.0), 1.0, False),
    ],
)
def test_a_limit_includes_its_value_only_where_its_sign_says_so(
    limit: Limit, ratio: float, kept: bool
) -> None:
    assert limit.keeps(ratio) is kept


def test_ratios_are_taken_round_by_round_before_the_median() -> None:
    # The machine was half as fast in the second round: the medians' ratio would be 1.5.
    one = Comparison(("1", "tokens/s"), [30.0, 10.0, 32.0], [20.0, 5.0, 20.0])
    assert one.ratios == [1.5, 2.0, 1.6]
    assert one.ratio == 1.6


def test_row_has_medians_ratio_with_spread_and_verdict() -> None:
    one = Comparison(("1", "tokens/s"), [30.0, 31.0], [20.0, 20.0], Limit("≥", 1.4))
    assert one.row() == ["1", "tokens/s", "30.5", "20.0", "1.52 (1.50–1.55)", "≥ 1.4", "kept"]


def test_one_round_has_no_spread_and_no_limit_no_verdict() -> None:
    assert Comparison(("x",), [3.0], [2.0], digits=0).row() == ["x", "3", "2", "1.50", "", ""]


def test_a_missed_limit_is_shown_and_told() -> None:
    bad = Comparison(("8", "TTFT"), [8.0], [10.0], Limit("≤", 0.7))
    good = Comparison(("1", "TTFT"), [1.0], [10.0], Limit("≤", 0.7))
    assert bad.row()[-1] == "**missed**"
    assert missed([good, bad]) == ["8, TTFT: ratio 0.80, limit ≤ 0.7"]


def test_rounds_that_do_not_pair_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="longer"):
        _ = Comparison(("x",), [1.0], [1.0, 2.0]).ratio


def test_a_zero_keeps_no_upper_limit() -> None:
    assert not Comparison(("x",), [1.0], [0.0], Limit("≤", 0.7)).kept
