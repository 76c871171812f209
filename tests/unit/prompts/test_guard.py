from __future__ import annotations

import pytest

from server.errors import InvalidRequest
from server.prompts.environment import compile_template
from server.prompts.guard import ControlPattern, Guard, GuardedText, MarkTakenError

M, E = "\ufdd0", "\ufdd1"


def guard(*tokens: str) -> Guard:
    return Guard(ControlPattern(tokens or ("<s>", "</s>", "</think>")), M, E)


def buffer(text: str) -> str:
    """What is written out."""
    return text.encode().decode()


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("", ""),
        (" \n", " \n"),
        ("a", f"{M}a{M}"),
        (" a b\n", f" {M}a b{M}\n"),
        ("<s>", f"{M}<{M}s>{M}"),
        ("a</s><s>", f"{M}a<{M}/s><{M}s>{M}"),
    ],
)
def test_marks(text: str, marked: str) -> None:
    assert buffer(guard().protect(text)) == marked


def test_overlapping_tokens_are_all_broken() -> None:
    assert buffer(guard("aba").protect("ababa")) == f"{M}a{M}ba{M}ba{M}"


def test_tokens_with_white_space_close_in_the_outer_space() -> None:
    assert buffer(guard("### R:\n").protect("x\n")) == f"{M}{M}x{M}\n{M}"


def test_a_tokenizer_without_control_tokens() -> None:
    assert buffer(Guard(ControlPattern(()), M, E).protect("<s>")) == f"{M}<s>{M}"


def test_a_mark_in_the_text_is_noticed() -> None:
    with pytest.raises(MarkTakenError):
        guard().protect(f"a{M}")
    with pytest.raises(MarkTakenError):
        guard().protect_all({"k": [f"a{E}"]})
    with pytest.raises(MarkTakenError):
        guard().protect_all({f"{M}": 1})


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="object"):
        guard().protect_all([object()])


def test_keys_are_guarded_and_found() -> None:
    value = guard().protect_all({"</s>": 1, "name": ("x", None, True, 1.5)})
    assert value["name"] == ["x", None, True, 1.5]
    assert value["</s>"] == 1
    assert [buffer(key) for key in value] == [f"{M}<{M}/s>{M}", f"{M}name{M}"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'</think>' in t", "True"),
        ("'nothing' in t", "False"),
        ("t == ' ok</think>\nA<s> '", "True"),
        ("t | length", "17"),
        ("t.startswith(' ok')", "True"),
        ("t.endswith(' ')", "True"),
        ("t.find('A')", "12"),
        ("t.split('</think>') | length", "2"),
        ("t.split('</think>')[-1] == '\nA<s> '", "True"),
        ("t.split('</think>')[-1].strip() == 'A<s>'", "True"),
        ("t | trim == 'ok</think>\nA<s>'", "True"),
        ("t[1:3] == 'ok'", "True"),
        ("t | upper == ' OK</THINK>\nA<S> '", "True"),
        ("t | replace('ok', 'no') == ' no</think>\nA<s> '", "True"),
        ("t.partition('</think>')[0] == ' ok'", "True"),
        ("t is string", "True"),
        ("'x' if t else 'y'", "x"),
        ("t.isspace()", "False"),
    ],
)
def test_templates_do_not_notice(expression: str, expected: str) -> None:
    text = guard().protect(" ok</think>\nA<s> ")
    assert compile_template("{{ " + expression + " }}").render(t=text) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "t",
        "t | trim",
        "'<' + t",
        "('<' + t) | trim",
        "t | lower",
        "t | replace('!', '')",
        "t.replace('!', '')",
        "t[2:]",
        "t ~ '>'",
        "[t, t] | join",
        "'%s' % t",
        "'{}'.format(t)",
        "t | string",
        "t | tojson",
        "t | tojson(ensure_ascii=true)",
        "t.split('!') | join('')",
        "t | e",
    ],
)
@pytest.mark.parametrize("text", ["!!</s>", "<s>", "</!!s>", "/s>", "  s>", "</S>", "x<", "</s"])
def test_no_token_comes_out(expression: str, text: str) -> None:
    written = compile_template("{{ " + expression + " }}").render(t=guard().protect(text))
    assert "<s>" not in written
    assert "</s>" not in written
    assert "&lt;" not in written or expression == "t | e"


def test_the_guard_is_out_of_a_templates_reach() -> None:
    text = guard().protect("x")
    assert isinstance(text, GuardedText)
    assert compile_template("{{ t._plain is defined }}").render(t=text) == "False"
    assert {text: 1}["x"] == 1  # type: ignore[index]
