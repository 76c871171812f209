from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from server.engines.base import Delta, PositionLogprobs, SamplingSettings, TokenLogprob
from server.errors import GenerationFailed
from server.generation.assembler import collect, polish
from server.prompts.formatter import Prompt

STOP = ("\nHuman:", "### Instruction:", "THE END")


class Source:
    """Deltas that know whether they were closed."""

    def __init__(self, deltas: Sequence[Delta]) -> None:
        self.deltas = deltas
        self.closed = False

    async def __call__(self) -> AsyncGenerator[Delta, None]:
        try:
            for delta in self.deltas:
                yield delta
        finally:
            self.closed = True


def prompt(*, strip: bool) -> Prompt:
    return Prompt("", [1], (), (), strip)


async def polished(
    *deltas: Delta, strip: bool = False, stop: tuple[str, ...] = STOP, min_tokens: int = 0
) -> list[str]:
    source = Source(deltas)
    sampling = SamplingSettings(max_tokens=9, stop=stop, min_tokens=min_tokens)
    found = [delta.text async for delta in polish(source(), prompt(strip=strip), sampling)]
    assert source.closed
    return found


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([" Hi", " there"], ["Hi", " there"]),
        (["  Hi"], [" Hi"]),
        (["Hi", " there"], ["Hi", " there"]),
        (["", " Hi"], ["", "Hi"]),
        ([" ", " Hi"], ["", " Hi"]),
        (["\n Hi"], ["\n Hi"]),
    ],
)
async def test_one_leading_space_goes(texts: list[str], expected: list[str]) -> None:
    assert await polished(*(Delta(0, text, [1]) for text in texts), strip=True) == expected
    assert await polished(*(Delta(0, text, [1]) for text in texts)) == texts


async def test_each_choice_has_its_own_start() -> None:
    deltas = [Delta(i, " x", [1]) for i in (1, 0, 1, 0)]
    assert await polished(*deltas, strip=True) == ["x", "x", " x", " x"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("So\nHum", "So"),
        ("So\nHuman", "So"),
        ("So ### Instruct", "So "),
        ("So ##", "So "),
        ("TH", ""),
        ("So\n", "So"),
        ("So #", "So "),
        ("Human", "Human"),
        ("THE ENDS", "THE ENDS"),
        ("x\n### Instruction", "x\n"),
        ("\nHumTH", "\nHum"),
        ("", ""),
    ],
)
async def test_a_piece_of_a_stop_string_at_a_cut_end_goes(text: str, kept: str) -> None:
    assert await polished(Delta(0, text, [1], "length")) == [kept]
    # Elsewhere it is text.
    assert await polished(Delta(0, text, [1], "stop")) == [text]
    assert await polished(Delta(0, text, [1]), Delta(0, "x", [1], "length")) == [text, "x"]
    assert await polished(Delta(0, text, [1], "length"), stop=()) == [text]


async def test_of_stop_strings_within_one_token_the_first_to_begin_ends_the_answer() -> None:
    ended = Delta(0, "a b", [1], "stop", stop_reason="c")
    assert await polished(ended, stop=("c", "b")) == ["a "]
    # Before min_tokens they were ordinary text.
    ended = Delta(0, "a b", [1], "stop", stop_reason="c")
    assert await polished(ended, stop=("c", "b"), min_tokens=2) == ["a b"]
    # EOS (no stop reason) ends it as it is.
    assert await polished(Delta(0, "a b", [1], "stop"), stop=("b",)) == ["a b"]


async def test_an_abort_is_a_failure() -> None:
    source = Source([Delta(0, "a", [1]), Delta(0, "b", [1], "abort"), Delta(1, "c", [1])])
    deltas = polish(source(), prompt(strip=False), SamplingSettings(max_tokens=9))
    assert (await anext(deltas)).text == "a"
    with pytest.raises(GenerationFailed, match="the engine is stopping"):
        await anext(deltas)
    assert source.closed


async def test_closing_closes_the_engines_iterator() -> None:
    source = Source([Delta(0, "a", [1]), Delta(0, "b", [1])])
    deltas = polish(source(), prompt(strip=False), SamplingSettings(max_tokens=9))
    await anext(deltas)
    assert not source.closed
    await deltas.aclose()
    assert source.closed


async def test_collecting() -> None:
    logprobs = (PositionLogprobs(TokenLogprob(1, "a", -1.0), ()),)
    source = Source(
        [
            Delta(1, "x", [5], cached_tokens=3),
            Delta(0, "a", [1], logprobs=logprobs),
            Delta(1, "", [6], "length"),
            Delta(0, "b", [2, 3], "stop", logprobs=logprobs * 2, cached_tokens=7),
            Delta(0, "", []),
        ]
    )
    result = await collect(source(), 2)
    first, second = result.choices
    assert (first.text, first.token_ids, first.finish_reason) == ("ab", [1, 2, 3], "stop")
    assert first.logprobs == [*logprobs] * 3
    assert (second.text, second.token_ids, second.finish_reason) == ("x", [5, 6], "length")
    assert (result.completion_tokens, result.cached_tokens) == (5, 7)
    assert source.closed
