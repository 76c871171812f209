"""What a caller asks for, and what becomes of it before an engine is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from server.engines.base import EmbeddingRequest, GenerationRequest
from server.engines.output import ToolUse
from server.generation.hosted import HostedModel
from server.generation.sampling import SamplingOverrides
from server.generation.window import Window
from server.prompts.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduling:
    """What a caller says of how its request is computed, not of what.

    Args:
        request_id: The caller's own name for the request, or None.
        truncate_prompt_tokens: Keep the last so many tokens of the prompt; -1: as many as fit.
    """

    request_id: str | None = None
    priority: int = 0
    cache_salt: str | None = None
    truncate_prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A chat completion to be made.

    Args:
        overflow: What happens to a conversation that does not fit; None: what the entry says.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    template_kwargs: Mapping[str, Any] | None = None
    tools: ToolUse | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool = True
    echo: bool = False
    overflow: Literal["error", "drop_oldest"] | None = None
    scheduling: Scheduling = Scheduling()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall:
    """One prompt to be continued: text, or token ids.

    ``max_tokens`` may be 0 together with ``echo``: the prompt is only scored then.
    """

    model: str
    prompt: str | Sequence[int]
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    echo: bool = False
    scheduling: Scheduling = Scheduling()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall:
    """One input to be turned into a vector: text, or token ids, which are taken as they are.

    Args:
        dimensions: Length of the vector; None: the model's own.
        truncate_tokens: Use so many tokens at most, special ones included; -1: as many as fit.
        keep_end: What is too long loses its beginning, not its end.
        add_special_tokens: Put around a text what its tokenizer does: BOS, a class token, EOS.
    """

    model: str
    input: str | Sequence[int]
    dimensions: int | None = None
    truncate_tokens: int | None = None
    keep_end: bool = False
    add_special_tokens: bool = True
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedEmbedding:
    """An input that fits and only waits for its engine."""

    model: HostedModel
    request: EmbeddingRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A call that is rendered, fits, and only waits for its engine.

    Args:
        response_id: What the response's id is made of.
        tools: Tools that the answer may call.
        template_kwargs: What the chat template was given.
        include_reasoning: Whether the caller wants to see reasoning.
        echo: What each answer begins with, or "".
        parses: Whether reasoning and tool calls are told apart from text, as in a chat.
        scores_only: The one token that is generated is nobody's: no answer was asked for.
        unused: Fields of the call that mean nothing to this model.
    """

    model: HostedModel
    tokenizer: PromptTokenizer
    window: Window
    request: GenerationRequest
    response_id: str
    tools: ToolUse | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    include_reasoning: bool = True
    echo: str = ""
    parses: bool = False
    scores_only: bool = False
    unused: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

    @property
    def reasons(self) -> bool:
        """Whether the answer's reasoning is told apart."""
        return self.parses and self.model.entry.reasoning_parser is not None

    def as_dict(self) -> dict[str, Any]:
        """What `render` shows: prompt, ids, what ends the answer, what was dropped."""
        sampling = self.request.sampling
        return {
            "object": "chat.completion.render",
            "model": self.model.entry.id,
            "template": self.model.entry.template,
            "prompt": self.window.prompt.text,
            "prompt_token_ids": list(self.request.prompt_token_ids),
            "prompt_tokens": self.prompt_tokens,
            "context_length": self.model.context_length,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "stop_token_ids": list(sampling.stop_token_ids),
            "dropped_messages": self.window.dropped_messages,
        }


@dataclass(frozen=True, slots=True)
class Rendered:
    """The tokens of a text or a conversation, for who only wants to know them.

    Args:
        unused: Fields of the call that mean nothing to this model.
    """

    model: HostedModel
    tokenizer: PromptTokenizer
    token_ids: Sequence[int]
    unused: tuple[str, ...] = ()
