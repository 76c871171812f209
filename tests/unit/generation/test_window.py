from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.errors import ContextLengthExceeded
from server.generation.window import Window, fit, fit_text
from server.prompts.catalog import get_format
from server.prompts.conversation import Message
from server.prompts.formatter import Formatter, Prompt
from server.prompts.tokenizer import PromptTokenizer

ToTokenizer = Callable[[str], PromptTokenizer]


def render(messages: Sequence[Message]) -> Prompt:
    """A token a character: the role's letter, the text, a bar."""
    text = "".join(f"{message.role[0]}{message.text}|" for message in messages)
    return prompt_of(text)


def prompt_of(text: str) -> Prompt:
    return Prompt(text, list(map(ord, text)), (), (), False)


def estimate(message: Message) -> int:
    return len(message.text) + 2


def conversation(text: str) -> list[Message]:
    """``"s1 u22 a333"`` to messages."""
    roles: dict[str, Any] = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [Message(roles[word[0]], word[1:]) for word in text.split()]


def fitted(text: str | Sequence[Message], context: int, **options: Any) -> Window:
    messages = conversation(text) if isinstance(text, str) else text
    basics: dict[str, Any] = {
        "max_tokens": None,
        "default_max_tokens": None,
        "overflow": "drop_oldest",
    }
    return fit(messages, render, estimate, context=context, **basics | options)


def left(text: str, context: int, **options: Any) -> tuple[str, int]:
    """What stays of a conversation, and how many messages went."""
    window = fitted(text, context, **options)
    return window.prompt.text.replace("|", " ").strip(), window.dropped_messages


TALK = "sS u1111 a2222 u3333 a4444 u5555"  # 3 + 5 * 6 tokens


@pytest.mark.parametrize("overflow", ["error", "drop_oldest"])
def test_what_fits_stays_as_it_is(overflow: str) -> None:
    window = fitted(TALK, 40, max_tokens=7, overflow=overflow)
    assert window.prompt.text == "sS|u1111|a2222|u3333|a4444|u5555|"
    assert (window.max_tokens, window.dropped_messages) == (7, 0)


@pytest.mark.parametrize(
    ("context", "max_tokens", "default", "granted"),
    [
        (40, 7, None, 7),
        (40, 7, 3, 7),
        (40, None, None, 7),  # all that is left
        (40, None, 3, 3),
        (40, None, 99, 7),
        (34, None, None, 1),
    ],
)
def test_the_completions_limit(
    context: int, max_tokens: int | None, default: int | None, granted: int
) -> None:
    options = {"max_tokens": max_tokens, "default_max_tokens": default}
    assert fitted(TALK, context, overflow="error", **options).max_tokens == granted


@pytest.mark.parametrize(("context", "max_tokens"), [(33, None), (39, 7), (20, 1)])
def test_error_refuses_what_does_not_fit(context: int, max_tokens: int | None) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        fitted(TALK, context, max_tokens=max_tokens, overflow="error")
    error = caught.value
    assert (error.limit, error.prompt_tokens, error.completion_tokens) == (context, 33, max_tokens)
    assert (error.param, error.code) == ("messages", "context_length_exceeded")
    assert error.tool_tokens == 0


@pytest.mark.parametrize(
    ("text", "overflow", "sizes"), [(TALK, "error", (33, 11)), ("u1 a2 u55", "drop_oldest", (4, 1))]
)
def test_the_tools_share_of_what_does_not_fit(
    text: str, overflow: str, sizes: tuple[int, int]
) -> None:
    """The tools take a third of each prompt here; it counts in the last one that was tried."""

    def without_tools(messages: Sequence[Message]) -> Prompt:
        text = render(messages).text
        return prompt_of(text[len(text) // 3 :])

    with pytest.raises(ContextLengthExceeded) as caught:
        fitted(text, 4, max_tokens=1, overflow=overflow, without_tools=without_tools)
    assert (caught.value.prompt_tokens, caught.value.tool_tokens) == sizes


@pytest.mark.parametrize(
    ("text", "context", "expected"),
    [
        (TALK, 33, ("sS u3333 a4444 u5555", 2)),
        (TALK, 25, ("sS u3333 a4444 u5555", 2)),
        # The first turn alone would do, but the next turn would soon need the second as well.
        (TALK, 22, ("sS u5555", 4)),
        # Whole turns: an answer never stays without its question.
        ("u11 a22 a33 t44 u55", 9, ("u55", 4)),
        # Several system messages at the start, and consecutive questions, are one.
        ("s1 s2 u33 a44 u5 u6", 17, ("s1 s2 u5 u6", 2)),
        # Instructions in mid-conversation belong to the question after them...
        ("u1111 a2222 s3 u4", 10, ("s3 u4", 2)),
        # ... and those at the end to the last one.
        ("u1111 a2222 u3 a4 s5", 15, ("u3 a4 s5", 2)),
        ("u1111 a2222 u3 a4 s5 a6", 18, ("u3 a4 s5 a6", 2)),
        # A conversation that starts with an answer.
        ("a1111 u2222 a3333 u44", 6, ("u44", 3)),
        # The last answer is to be continued.
        ("u1111 a2222 u33 a44", 10, ("u33 a44", 2)),
    ],
)
def test_whole_turns_go(text: str, context: int, expected: tuple[str, int]) -> None:
    assert left(text, context, max_tokens=1) == expected


@pytest.mark.parametrize("text", ["sS u55555", "u1 a2 sS u55555", "u1 a2 u5 u55555", "u555555"])
def test_the_last_turn_must_fit(text: str) -> None:
    with pytest.raises(ContextLengthExceeded):
        fitted(text, 8, max_tokens=2)


def test_more_than_the_context_is_never_granted() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        fitted(TALK, 40, max_tokens=41)
    assert caught.value.completion_tokens == 41


def test_an_open_completion_gets_room() -> None:
    text = " ".join(f"u{n:04} a{n:04}" for n in range(100)) + " u9"
    window = fitted(text, 400)
    assert window.max_tokens >= 100, "a quarter of the context"
    assert fitted(text, 400, default_max_tokens=50).max_tokens == 50
    assert fitted(f"{text} " * 40, 16_000).max_tokens >= 1024


def test_an_estimate_that_is_far_off_still_ends_in_what_fits() -> None:
    text = " ".join("u1111 a2222" for _ in range(50)) + " u3"
    for factor in (0, 10):
        window = fit(
            conversation(text),
            render,
            lambda message: factor * estimate(message),  # noqa: B023
            context=20,
            max_tokens=4,
            default_max_tokens=None,
            overflow="drop_oldest",
        )
        assert len(window.prompt.token_ids) + 4 <= 20
        assert window.prompt.text.endswith("u3|")


messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.text("x", max_size=30),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    messages,
    st.integers(1, 300),
    st.none() | st.integers(1, 40),
    st.sampled_from([estimate, lambda _: 0, lambda _: 7]),
)
def test_what_is_returned_fits_and_has_all_that_must_stay(
    said: list[Message], context: int, max_tokens: int | None, guess: Callable[[Message], int]
) -> None:
    try:
        window = fit(
            said,
            render,
            guess,
            context=context,
            max_tokens=max_tokens,
            default_max_tokens=None,
            overflow="drop_oldest",
        )
    except ContextLengthExceeded:
        # Not even the system messages, the last question and what came after it fit.
        must = must_stay(said)
        reserve = max_tokens or max(1, min(context // 4, 1024))
        assert len(render(must).token_ids) + reserve > context
        return
    prompt = window.prompt
    assert window.max_tokens >= (max_tokens or 1)
    assert len(prompt.token_ids) + window.max_tokens <= context
    head = [m for i, m in enumerate(said) if all(n.role == "system" for n in said[: i + 1])]
    start = len(head) + window.dropped_messages
    assert prompt.text == render([*head, *said[start:]]).text
    assert start <= len(said) - (len(must_stay(said)) - len(head))


def must_stay(said: list[Message]) -> list[Message]:
    """System messages at the start; the last question, what leads to it, and all after it."""
    head = next((i for i, m in enumerate(said) if m.role != "system"), len(said))
    last = max((i for i, m in enumerate(said) if m.role == "user"), default=head)
    while last > head and said[last - 1].role in ("user", "system"):
        last -= 1
    return said[:head] + said[last:]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=30, max_size=120),
    st.integers(400, 1200),
)
def test_the_next_turns_find_their_prefix_in_the_cache(
    sizes: list[tuple[int, int]], context: int
) -> None:
    """As a conversation grows, the cut moves in steps of about a quarter of the context."""
    talk = [Message("system", "Be nice.")]
    cuts: list[int] = []
    tokens = 0
    before: Window | None = None
    for question, answer in sizes:
        talk.append(Message("user", "q" * question))
        window = fitted(talk, context, max_tokens=50)
        cuts.append(window.dropped_messages)
        if before is not None and window.dropped_messages == before.dropped_messages:
            assert window.prompt.text.startswith(before.prompt.text)
        before = window
        talk.append(Message("assistant", "a" * answer))
        tokens += question + answer + 4
    moves = sum(new != old for old, new in pairwise(cuts))
    assert cuts == sorted(cuts), "the cut never moves back"
    step = (context - 50) // 4
    assert moves <= tokens / step + 1


def test_with_a_real_formatter(tokenizer_of: ToTokenizer) -> None:
    formatter = Formatter(get_format("alpaca"), tokenizer_of("llama"))
    talk: list[Message] = []
    cuts = []
    for number in range(40):
        talk.append(Message("user", f"Question {number}: " + "why? " * (number % 5)))
        window = fit(
            talk,
            formatter.render,
            formatter.estimate_turn_tokens,
            context=1000,
            max_tokens=100,
            default_max_tokens=None,
            overflow="drop_oldest",
        )
        assert len(window.prompt.token_ids) <= 900
        assert f"Question {number}:" in window.prompt.text
        cuts.append(window.dropped_messages)
        talk.append(Message("assistant", "Because. " * (number % 7)))
    assert cuts == sorted(cuts)
    assert cuts[0] == 0
    assert cuts[-1] > 40
    assert len(set(cuts)) < 16, "most turns keep the cut of the turn before"


@pytest.mark.parametrize(
    ("context", "max_tokens", "default", "granted"),
    [(20, 10, 16, 10), (20, None, 16, 10), (20, None, 5, 5), (11, None, 16, 1)],
)
def test_texts(context: int, max_tokens: int | None, default: int, granted: int) -> None:
    window = fit_text(
        prompt_of("0123456789"), context=context, max_tokens=max_tokens, default_max_tokens=default
    )
    assert (window.max_tokens, window.dropped_messages) == (granted, 0)


@pytest.mark.parametrize(("context", "max_tokens"), [(20, 11), (10, None), (5, None)])
def test_texts_that_do_not_fit(context: int, max_tokens: int | None) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        fit_text(
            prompt_of("0123456789"), context=context, max_tokens=max_tokens, default_max_tokens=16
        )
    assert (caught.value.param, caught.value.prompt_tokens) == ("prompt", 10)
