"""Answers that say something, and answers that say its opposite."""

from __future__ import annotations

import pytest

from evaluation.negation import says


@pytest.mark.parametrize(
    "text",
    [
        "Paris.",
        "The capital is PARIS",
        "It is not London, but Paris.",
        "I am not sure. Paris?",
        "Not only Paris is large.",
        "It isn't Rome; it is Paris",
        "No doubt Paris",
        "Rome is wrong. Paris is the capital.",
        "Paris is not in Germany",
    ],
)
def test_said(text: str) -> None:
    assert says(r"\bParis\b", text)


@pytest.mark.parametrize(
    "text",
    [
        "Rome.",
        "It is not Paris.",
        "It isn't Paris",
        "It isn’t Paris",
        "The capital is never Paris",
        "Paris is wrong",
        "'Paris' is not the right answer",
        "London rather than Paris",
        "Parisians",
    ],
)
def test_not_said(text: str) -> None:
    assert not says(r"\bParis\b", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("首都是巴黎。", True),
        ("不是伦敦，而是巴黎。", True),
        ("首都不是巴黎。", False),
        ("巴黎是错的。", False),
        ("没错，巴黎", True),
        ("非常大的巴黎", True),
        ("不仅巴黎", True),
    ],
)
def test_in_chinese(text: str, said: bool) -> None:
    assert says("巴黎", text) is said


def test_one_place_outside_a_negation_is_enough() -> None:
    assert says("red", "It is not red at night. By day it is red.")


def test_long_texts_are_read_in_time() -> None:
    assert not says("Paris", "not, " * 20_000 + "Paris")
