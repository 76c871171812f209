"""What a caller asks for, and what becomes of it before an engine is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.engines.base import GenerationRequest
from server.generation.herd import HostedModel
from server.generation.sampling import SamplingOverrides
from server.generation.window import Window
from server.prompts.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A chat completion to be made."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    template_kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall:
    """One prompt to be continued: text, or token ids."""

    model: str
    prompt: str | Sequence[int]
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A call that is rendered, fits, and only waits for its engine."""

    model: HostedModel
    tokenizer: PromptTokenizer
    window: Window
    request: GenerationRequest

    @property
    def prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

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
