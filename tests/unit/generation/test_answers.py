"""Echo, scores, and what is told apart in an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from server.engines.base import Delta, PositionLogprobs, TokenLogprob, ToolCallDelta
from server.generation.assembler import ToolCall, collect, echo, only_scores, parse


async def source(*deltas: Delta) -> AsyncGenerator[Delta, None]:
    for delta in deltas:
        yield delta


def position(text: str) -> PositionLogprobs:
    token = TokenLogprob(1, text, -0.5, 1)
    return PositionLogprobs(token, (token,))


async def test_every_choice_begins_with_the_prompt() -> None:
    deltas = echo(
        source(
            Delta(1, "b", [1], logprobs=(position("b"),), prompt_logprobs=(None, position("Q"))),
            Delta(0, "a", [1], logprobs=(position("a"),)),
            Delta(0, "", [], "stop"),
        ),
        "PQ",
        first_token="P",
        logprobs=True,
    )
    found = [(delta.index, delta.text, delta.logprobs) async for delta in deltas]
    first = PositionLogprobs(TokenLogprob(-1, "P", None), ())
    assert found == [
        (1, "PQb", (first, position("Q"), position("b"))),
        (0, "PQa", (first, position("Q"), position("a"))),
        (0, "", None),
    ]


async def test_scores_alone() -> None:
    answer = Delta(0, "x", [1], "stop", "END", logprobs=(position("x"),), cached_tokens=3)
    (delta,) = [delta async for delta in only_scores(source(answer))]
    assert delta == Delta(0, "", (), "length", cached_tokens=3)


class Shout:
    """A parser that takes all text for reasoning."""

    constraint = None
    reasoning_ended = False
    skip_special_tokens = True

    def parse(self, delta: Delta) -> None:
        delta.reasoning, delta.text = delta.text.upper(), ""


async def test_reasoning_is_shown_or_not() -> None:
    for shown, expected in ((True, "HM"), (False, "")):
        deltas = parse(source(Delta(0, "hm", [1], "stop")), Shout(), include_reasoning=shown)
        result = await collect(deltas, 1)
        assert (result.choices[0].reasoning, result.choices[0].text) == (expected, "")


async def test_calls_are_put_together() -> None:
    result = await collect(
        source(
            Delta(0, "", [1], tool_calls=(ToolCallDelta(0, "c0", "f"), ToolCallDelta(2, "c2"))),
            Delta(0, "", [1], tool_calls=(ToolCallDelta(0, arguments="{"),)),
            Delta(
                0,
                "",
                [1],
                "tool_calls",
                tool_calls=(ToolCallDelta(0, arguments="}"), ToolCallDelta(2, name="g")),
            ),
        ),
        1,
    )
    assert result.choices[0].tool_calls == [
        ToolCall("c0", "f", "{}"),
        ToolCall("", "", ""),
        ToolCall("c2", "g", ""),
    ]
