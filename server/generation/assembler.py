"""From an engine's deltas to text that a client may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from server.engines.base import (
    Delta,
    FinishReason,
    PositionLogprobs,
    SamplingSettings,
    TokenLogprob,
    ToolCallDelta,
)
from server.engines.output import OutputParser
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
                _finish(delta, prompt, sampling)
            yield delta


async def parse(
    deltas: AsyncGenerator[Delta, None], parser: OutputParser, *, include_reasoning: bool
) -> AsyncGenerator[Delta, None]:
    """Pass deltas on with reasoning and tool calls taken out of their text.

    Args:
        include_reasoning: Whether reasoning is passed on.

    Raises:
        GenerationFailed: The parser cannot read what the model wrote.
    """
    async with aclosing(deltas):
        async for delta in deltas:
            parser.parse(delta)
            if not include_reasoning:
                delta.reasoning = ""
            yield delta


async def echo(
    deltas: AsyncGenerator[Delta, None], prompt: str, *, first_token: str, logprobs: bool
) -> AsyncGenerator[Delta, None]:
    """Pass deltas on, each choice beginning with the prompt.

    Args:
        prompt: Its text.
        first_token: Text of its first token, which has no log-probability.
        logprobs: Whether log-probabilities of the prompt's tokens come first as well.
    """
    begun: set[int] = set()
    before: tuple[PositionLogprobs, ...] = ()
    async with aclosing(deltas):
        async for delta in deltas:
            if logprobs and delta.prompt_logprobs and not before:
                before = tuple(
                    position or PositionLogprobs(TokenLogprob(-1, first_token, None), ())
                    for position in delta.prompt_logprobs
                )
            if delta.index not in begun:
                begun.add(delta.index)
                delta.text = prompt + delta.text
                if logprobs:
                    delta.logprobs = before + (delta.logprobs or ())
            yield delta


async def only_scores(deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    """Pass deltas on without what was generated: nobody asked for an answer."""
    async with aclosing(deltas):
        async for delta in deltas:
            delta.text, delta.token_ids, delta.logprobs = "", (), None
            if delta.finish_reason is not None:
                delta.finish_reason, delta.stop_reason = "length", None
            yield delta


def _finish(delta: Delta, prompt: Prompt, sampling: SamplingSettings) -> None:
    if delta.finish_reason == "abort":
        raise GenerationFailed("The request was aborted because the engine is stopping.")
    # The caller may want to see its own stop strings, never the format's.
    shown = sampling.include_stop_str_in_output and delta.stop_reason not in prompt.stop
    # Before `min_tokens` a stop string is ordinary text.
    if isinstance(delta.stop_reason, str) and not sampling.min_tokens and not shown:
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
class ToolCall:
    """A whole tool call; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """A finished choice, put together from its deltas."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    logprobs: list[PositionLogprobs] = field(default_factory=list)
    prompt_logprobs: tuple[PositionLogprobs | None, ...] | None = None
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)

    def add(self, delta: Delta) -> None:
        """Take in one more delta, all but its text and reasoning."""
        self.token_ids.extend(delta.token_ids)
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.stop_reason is not None:
            self.stop_reason = delta.stop_reason
        self.logprobs.extend(delta.logprobs or ())
        self.prompt_logprobs = self.prompt_logprobs or delta.prompt_logprobs
        for piece in delta.tool_calls:
            self._add_call(piece)

    def _add_call(self, piece: ToolCallDelta) -> None:
        # Nobody promises that a parser leaves no index out.
        while piece.index >= len(self.tool_calls):
            self.tool_calls.append(ToolCall("", ""))
        call = self.tool_calls[piece.index]
        call.id = piece.id or call.id
        call.name = piece.name or call.name
        call.arguments += piece.arguments


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    dropped_messages: int = 0
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """All choices of a request, in order of their index, and what they took."""

    choices: tuple[Choice, ...]
    cached_tokens: int
    reasoning_tokens: int = 0

    @property
    def completion_tokens(self) -> int:
        return sum(len(choice.token_ids) for choice in self.choices)


async def collect(deltas: AsyncGenerator[Delta, None], n: int) -> Result:
    """Consume ``deltas`` of ``n`` choices to the end."""
    texts: list[list[str]] = [[] for _ in range(n)]
    thoughts: list[list[str]] = [[] for _ in range(n)]
    choices = [Choice(index) for index in range(n)]
    cached = reasoning_tokens = 0
    async with aclosing(deltas):
        async for delta in deltas:
            choices[delta.index].add(delta)
            texts[delta.index].append(delta.text)
            thoughts[delta.index].append(delta.reasoning)
            cached = max(cached, delta.cached_tokens)
            reasoning_tokens += delta.reasoning_tokens
    for choice in choices:
        choice.text = "".join(texts[choice.index])
        choice.reasoning = "".join(thoughts[choice.index])
    return Result(tuple(choices), cached, reasoning_tokens)
