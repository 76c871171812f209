"""The seam between a request's life and whatever generates its tokens."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from server.engines.spec import Adapter

if TYPE_CHECKING:
    from server.engines.adapters import AdapterShelf
    from server.engines.output import OutputFormat

FinishReason = Literal["stop", "length", "tool_calls", "abort"]
# Type code "f": 32-bit floats in the machine's byte order.
Vector: TypeAlias = "array[float]"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer must look like, token by token.

    Args:
        kind: ``json``: a JSON schema; ``regex``; ``choice``: one of some strings; ``grammar``: EBNF
            or Lark; ``structural_tag``: xgrammar's tags, as JSON text.
        value: The schema (a dict or a bool), pattern, strings, grammar or tags.
        param: The request's field that asks for it, for errors.
    """

    kind: Literal["json", "regex", "choice", "grammar", "structural_tag"]
    value: Any
    param: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How tokens are drawn and when generation ends; vLLM's ``SamplingParams`` without vLLM.

    Args:
        max_tokens: Most tokens to generate, at least 1.
        top_k: Keep the k likeliest tokens; 0 keeps all.
        logprobs: Log-probabilities of this many likeliest tokens beside the drawn one; None: none.
        prompt_logprobs: The same for the prompt's tokens.
        stop: Strings that end generation; neither they nor a part of them is returned, unless
            ``include_stop_str_in_output``.
        stop_token_ids: Tokens that end generation besides the model's own EOS.
        allowed_token_ids: The only tokens that may be drawn; None: all.
        bad_words: Texts that must not be written.
        skip_special_tokens: Leave special tokens out of the text.
        constraint: What the answer must look like, or None.
    """

    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt to be continued.

    Args:
        request_id: Unique among all running requests (vLLM aborts by it).
        prompt_token_ids: The exact prompt, BOS included.
        priority: Requests of a lower one are computed first.
        cache_salt: Only requests of the same salt share prefix cache entries; None: those of none.
        reasoning_ended: False if the model begins with reasoning, which no constraint concerns;
            None where it does not reason.
        adapter: Generate with this one, which the engine's shelf holds meanwhile; None: without.
    """

    request_id: str
    prompt_token_ids: Sequence[int]
    sampling: SamplingSettings
    priority: int = 0
    cache_salt: str | None = None
    reasoning_ended: bool | None = None
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One text to be turned into a vector.

    Args:
        request_id: Unique among all running requests.
        prompt_token_ids: The exact tokens, at least one, special ones included.
        dimensions: Length of the vector, for models that were trained to be cut; None: their own.
        priority: Requests of a lower one are computed first.
        adapter: As in `GenerationRequest`.
    """

    request_id: str
    prompt_token_ids: Sequence[int]
    dimensions: int | None = None
    priority: int = 0
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its log-probability (natural logarithm); None where nothing comes before."""

    token_id: int
    token: str
    logprob: float | None
    rank: int | None = None
    """1 for the likeliest; None where unknown."""


@dataclass(frozen=True, slots=True)
class PositionLogprobs:
    """The drawn token of one position, and the likeliest ones there, best first."""

    drawn: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call.

    Args:
        index: The call's place among those of its choice, from 0.
        id: Set in the first piece of a call.
        name: The function's, in the first piece.
        arguments: The next part of the arguments, which are JSON text.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class Delta:
    """What one engine step added to one choice.

    Args:
        index: The choice, from 0 to n - 1.
        text: New text, already free of stop strings; may be empty.
        token_ids: New tokens; several when the consumer was slower than the engine.
        finish_reason: Set on the last delta of a choice.
        stop_reason: The stop string or token id that ended the choice, None for EOS.
        logprobs: One entry a new token, when asked for.
        cached_tokens: Prompt tokens whose KV cache was found in the prefix cache.
        prompt_logprobs: One entry a prompt token (None for the first), once, when asked for.
        reasoning: New reasoning, which is no part of ``text``.
        tool_calls: New pieces of tool calls.
        reasoning_tokens: Tokens of the choice that were reasoning; set on its last delta.
    """

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    logprobs: tuple[PositionLogprobs, ...] | None = None
    cached_tokens: int = 0
    prompt_logprobs: tuple[PositionLogprobs | None, ...] | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    reasoning_tokens: int = 0


class Engine(Protocol):
    """A loaded model, or one that can be loaded.

    Every method is called on the event loop of the server.
    """

    async def start(self) -> None:
        """Load and warm up; returns when the first request can be answered at full speed.

        Raises:
            EngineDied: The engine did not come up; the message names the cause.
        """

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """Yield deltas until every choice has a finish_reason.

        Closing or cancelling the iterator aborts the request in the engine.

        Raises:
            InvalidRequest: The engine refuses the request's values.
            GenerationFailed: This request failed; others go on.
            EngineDied: The engine is gone.
        """

    async def embed(self, request: EmbeddingRequest) -> Vector:
        """The text's vector, of length 1 where the model says so; cancelling aborts.

        Only for engines of a spec that ``embeds``.

        Raises:
            InvalidRequest: The model cannot give this many dimensions.
            GenerationFailed: This request failed; others go on.
            EngineDied: The engine is gone.
        """

    async def output_format(self, tool_parser: str | None) -> OutputFormat:
        """How this model writes tool calls and reasoning.

        Args:
            tool_parser: vLLM's name for how it writes tool calls; None: it was not trained to.

        Raises:
            EngineDied: The model cannot be read this way; the message says why.
        """

    async def load_adapter(self, adapter: Adapter) -> None:
        """Take in an adapter, which the engine does not hold yet; for its shelf alone to call.

        Raises:
            AdapterFailed: It cannot be used; the engine is as it was.
            EngineDied: The engine is gone.
        """

    async def unload_adapter(self, adapter: Adapter) -> None:
        """Let go of an adapter that no request uses; for its shelf alone to call.

        Raises:
            EngineDied: The engine is gone.
        """

    @property
    def shelf(self) -> AdapterShelf:
        """Which adapters the engine holds; as old as the engine."""

    async def stop(self) -> None:
        """End the engine and free what it holds; safe to call at any time, and twice.

        Requests under way end with `EngineDied`.
        """

    def kill(self) -> None:
        """End the engine's processes at once, even if they hang; `stop` frees what is left."""

    async def probe(self) -> None:
        """Generate one token, before all other requests; returns when it is there.

        Raises:
            EngineDied: The engine is gone.
            GenerationFailed: It cannot generate.
        """

    @property
    def progress(self) -> int:
        """Tokens generated so far; grows while the engine is at work on requests."""

    def cpu_seconds(self) -> float:
        """Processor time that the engine's processes have taken so far."""

    @property
    def can_sleep(self) -> bool:
        """Whether it can give its memory back and take it again without being loaded anew."""

    async def sleep(self, level: Literal[1, 2]) -> None:
        """Free the device's memory: weights go to RAM (1) or nowhere (2), the KV cache goes.

        No request may be under way.

        Raises:
            EngineDied: It failed, and the engine must be loaded anew.
        """

    async def wake(self) -> None:
        """Undo `sleep`.

        Raises:
            EngineDied: It failed, and the engine must be loaded anew.
        """

    @property
    def alive(self) -> bool:
        """False once the engine's process is known to have ended."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes, for measuring what they hold; none while it is not running."""

    def describe(self) -> Mapping[str, str]:
        """The settings in use, by name, for ``corral doctor`` and the logs."""
