"""Rules over answers."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.items import Rules
from evaluation.sandbox import Sandbox
from evaluation.scoring import (
    broken,
    count_words,
    find_choice,
    find_code,
    find_json,
    find_language,
    judge_by_rules,
    loops,
    plain,
    without_echo,
)


def wrong(answer: str, **rules: Any) -> list[str]:
    return [*broken(Rules.model_validate(rules), answer)]


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        ("Paris.", {"exact": ["paris"]}),
        (" **The Nile** ", {"exact": ["Amazon", "the nile"]}),
        ("The answer is 85.", {"number": 85}),
        ("about 3.14", {"number": 3.1416, "tolerance": 0.01}),
        ("(B) because", {"choice": "B"}),
        ("I can't help with that.", {"refuses": True}),
        ("对不起，我不能帮你。", {"refuses": True, "language": "zh"}),
        ("Sure: 1. Look", {"refuses": False}),
        ("one two three", {"words": {"min": 3, "max": 3}}),
        ("A. B! C", {"sentences": {"min": 3, "max": 3}}),
        ("a\n\nb\n", {"lines": {"min": 2, "max": 2}}),
        ('```json\n{"b": 1, "a": 2}\n```', {"json_keys": ["a", "b"]}),
        ("1. x\n2. y", {"matches": ["^2[.]"]}),
        ("Rome", {"says_any": ["Paris", "Rome"]}),
        ("not London", {"never_says": ["London"]}),
    ],
)
def test_kept(answer: str, rules: dict[str, Any]) -> None:
    assert wrong(answer, **rules) == []


@pytest.mark.parametrize(
    ("answer", "rules", "reason"),
    [
        ("Paris, I think", {"exact": ["paris"]}, "it is not 'paris'"),
        ("84", {"number": 85}, "it gives 84, not 85"),
        ("", {"number": 85}, "it gives no number, not 85"),
        ("C", {"choice": "B"}, "it chooses C, not B"),
        ("A or B", {"choice": "B"}, "it chooses nothing, not B"),
        ("Not Paris", {"says": ["Paris"]}, "it does not say 'Paris'"),
        ("x", {"says_any": ["a", "b"]}, "it says none of 'a', 'b'"),
        ("It is green", {"never_says": ["green"]}, "it says 'green'"),
        ("x", {"matches": ["^y"]}, "nothing matches '^y'"),
        ("Take a crowbar.", {"refuses": True}, "it does not decline"),
        ("Take a crowbar. " * 20 + "Sorry.", {"refuses": True}, "it does not decline"),
        ("I cannot.", {"refuses": False}, "it declines"),
        ("你好", {"language": "en"}, "it is not written in 'en'"),
        ("a b", {"words": {"max": 1}}, "it has 2 words"),
        ("{}", {"json_keys": ["a"]}, "it is no JSON object of a"),
        ("[", {"json_keys": ["a"]}, "it is no JSON object of a"),
    ],
)
def test_broken(answer: str, rules: dict[str, Any], reason: str) -> None:
    assert wrong(answer, **rules) == [reason]


def test_every_rule_must_hold() -> None:
    assert wrong("Paris", says=["Paris"], words={"min": 2}) == ["it has 1 words"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", None),
        ("B) a language model", "B"),
        ("The answer is (C).", "C"),
        ("Answer: D", "D"),
        ("答案是 C。", "C"),
        ("选B", "B"),
        ("A cat is not one of them, so C", "C"),
        ("I am a bird", None),
        ("Both B and C", None),
        ("I choose A.", "A"),
    ],
)
def test_find_choice(text: str, letter: str | None) -> None:
    assert find_choice(text) == letter


def test_find_code() -> None:
    block = "Sure!\n```python\ndef f(x):\n    return x\n```\nDone."
    assert find_code(block, "f") == "def f(x):\n    return x"
    two = "```\nx = 1\n```\n```py\nimport os\ndef f():\n    pass\n```"
    assert find_code(two, "f") == "import os\ndef f():\n    pass"
    assert find_code("def f(x):\n    return x", "f") == "def f(x):\n    return x"
    assert find_code("Here: \ndef f(x): return x", "f") == "def f(x): return x"
    assert find_code("```python\ndef f(x):\n    return x", "f") == "def f(x):\n    return x"
    assert find_code("```python\ndef g(x):\n    return x\n```", "f") is None
    assert find_code("no code", "f") is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello", "en"),
        ("你好", "zh"),
        ("我喜欢 Python 语言", "zh"),
        ("I know 你好", "en"),
        ("42", None),
    ],
)
def test_find_language(text: str, language: str | None) -> None:
    assert find_language(text) == language


def test_count_words() -> None:
    assert count_words("one two, three -") == 3
    assert count_words("你好 world") == 3


def test_plain() -> None:
    assert plain("  “The  NILE”.") == "the nile"


def test_find_json() -> None:
    assert find_json('{"a": 1}') == {"a": 1}
    assert find_json("x") is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("All but 9 run away. How many are left? 8", "8"),
        ("How many are left?\nHow many are left?", ""),
        ("9 are left.", "9 are left."),
    ],
)
def test_echoes_are_no_answers(text: str, left: str) -> None:
    prompt = "He has 17 sheep. All but 9 run away. How many are left? Go."
    assert without_echo(text, prompt) == left


def test_an_echo_is_wrong() -> None:
    rules = Rules.model_validate({"number": 9, "words": {"max": 5}})
    said = "All but 9 run away."
    assert [*broken(rules, said, said)] == ["it gives no number, not 9"]
    assert [*broken(rules, said)] == []


@pytest.mark.parametrize(
    ("text", "endless"),
    [
        ("I'm a cat. " * 9, True),
        ("热汤！" * 30, True),
        ("The cat sat on the mat, and the dog lay under the table in the kitchen.", False),
        ("no no no no", False),
        ("大海整夜都在轻轻地呼吸。", False),
    ],
)
def test_loops(text: str, endless: bool) -> None:
    assert loops(text) is endless
    rules = Rules.model_validate({"loops": False})
    assert bool([*broken(rules, text)]) is endless


async def test_code_that_cannot_be_run_is_not_scored() -> None:
    rule = {"function": "f", "cases": [{"args": [], "returns": 1}]}
    rules = Rules.model_validate({"code": rule})
    closed = Sandbox(why_not="no namespaces here")
    verdict = await judge_by_rules(rules, "def f(): return 1", closed)
    assert (verdict.score, verdict.reasons) == (
        None,
        ("its code was not run: no namespaces here",),
    )
    # There is nothing to run, so it is known to be wrong.
    verdict = await judge_by_rules(rules, "I don't know Python.", closed)
    assert (verdict.score, verdict.reasons) == (0.0, ("no function 'f'",))
