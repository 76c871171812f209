"""From an engine's deltas to text that a client may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from server.engines.base import Delta, FinishReason, PositionLogprobs, SamplingSettings
from server.errors import GenerationFailed
from server.prompts.formatter import Prompt


async def polish(
    deltas: AsyncGenerator[Delta, None], prompt: Prompt, sampling: SamplingSettings
) -> AsyncGenerator[Delta, None]:
    """Pass deltas on, cleaned at both ends of each choice.

    - One leading space goes where the format was trained to begin answers with one.
    - No stop string and no part of one stays at the end: engines hold such text back, and let it go
      when the length limit comes first, or when another stop string ends at the same token.

    Raises:
        GenerationFailed: The engine aborted the request.
    """
    begun: set[int] = set()
    async with aclosing(deltas):
        async for delta in deltas:
            if prompt.strip_leading_space and delta.text and delta.index not in begun:
                begun.add(delta.index)
                delta.text = delta.text.removeprefix(" ")
            if delta.finish_reason is not None:
                _finish(delta, sampling)
            yield delta


def _finish(delta: Delta, sampling: SamplingSettings) -> None:
    if delta.finish_reason == "abort":
        raise GenerationFailed("The request was aborted because the engine is stopping.")
    # Before `min_tokens` a stop string is ordinary text.
    if isinstance(delta.stop_reason, str) and not sampling.min_tokens:
        found = [at for stop in sampling.stop if (at := delta.text.find(stop)) >= 0]
        delta.text = delta.text[: min(found, default=None)]
    if delta.finish_reason == "length":
        delta.text = _without_fragment(delta.text, sampling.stop)


def _without_fragment(text: str, stops: Sequence[str]) -> str:
    """``text`` without the beginning of a stop string at its end."""
    longest = max(
        (
            size
            for stop in stops
            for size in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:size])
        ),
        default=0,
    )
    return text[: len(text) - longest]


@dataclass(slots=True)
class Choice:
    """A finished choice, put together from its deltas."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    logprobs: list[PositionLogprobs] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    dropped_messages: int


@dataclass(frozen=True, slots=True)
class Result:
    """All choices of a request, in order of their index, and what they took."""

    choices: tuple[Choice, ...]
    cached_tokens: int

    @property
    def completion_tokens(self) -> int:
        return sum(len(choice.token_ids) for choice in self.choices)


async def collect(deltas: AsyncGenerator[Delta, None], n: int) -> Result:
    """Consume ``deltas`` of ``n`` choices to the end."""
    texts: list[list[str]] = [[] for _ in range(n)]
    choices = [Choice(index) for index in range(n)]
    cached = 0
    async with aclosing(deltas):
        async for delta in deltas:
            choice = choices[delta.index]
            texts[delta.index].append(delta.text)
            choice.token_ids.extend(delta.token_ids)
            choice.finish_reason = delta.finish_reason or choice.finish_reason
            choice.logprobs.extend(delta.logprobs or ())
            cached = max(cached, delta.cached_tokens)
    for choice, parts in zip(choices, texts, strict=True):
        choice.text = "".join(parts)
    return Result(tuple(choices), cached)
