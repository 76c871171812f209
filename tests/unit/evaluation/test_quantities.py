"""Numbers in answers."""

from __future__ import annotations

from fractions import Fraction

import pytest

from evaluation.quantities import chinese_number, final_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 1,234.", 1234),
        ("So 5 * 2 = 10 apples", 10),
        ("It is -5.", -5),
        ("The pond shrank from 10 to 3", 3),
        ("#### 18", 18),
        ("\\boxed{42}", 42),
        ("It takes twenty-one days.", 21),
        ("There are nine left.", 9),
        ("You get 3/4 of it", Fraction(3, 4)),
        ("0.75", Fraction(3, 4)),
        ("The answer is 8 euros, since 20 - 12 = 8.\nCheck: 3 notebooks cost 12.", 8),
        ("12 boxes. The answer is 7.\nThat leaves 5 of 12.", 7),
        ("答案是一亿二千万", 120_000_000),
        ("一共有三百二十一个", 321),
        ("等于 十二", 12),
        ("勺子是 0.5 元", Fraction(1, 2)),
        ("二〇二四", 2024),
        ("１２３", 123),
        ("no idea", None),
        ("", None),
        ("v2.0.1", None),
        ("1/0", 1),
        ("10 - 3 = 7", 7),
        ("x == 3 holds", 3),
    ],
)
def test_final_number(text: str, number: Fraction | int | None) -> None:
    assert final_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("十", 10),
        ("十五", 15),
        ("两百零六", 206),
        ("一万二千", 12_000),
        ("三亿零五", 300_000_005),
        ("负二", -2),
        ("一点五", Fraction(3, 2)),
        ("一九九八", 1998),
    ],
)
def test_chinese_numerals(text: str, number: Fraction | int) -> None:
    assert chinese_number(text) == number


def test_a_number_without_end_is_read_in_time() -> None:
    assert final_number("9" * 100_000) is not None
    assert final_number("1," * 50_000 + "x") == 1
    assert final_number("亿" * 10_000) is not None
