"""What chat and text completions share."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from server.errors import InvalidRequest, UnsupportedField
from server.generation.sampling import SamplingOverrides

_INT64 = 2**63
_TOKEN_ID = re.compile(r"-?[0-9]{1,18}")

# Fields of OpenAI's and vLLM's APIs that change nothing about a text completion here: accepted.
WITHOUT_EFFECT = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
# Values of otherwise refused fields that ask for nothing special.
_NEUTRAL: Mapping[str, Collection[Any]] = {
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "best_of": (1,),
    "documents": ([],),
    "echo": (False,),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1, 1.0),
    "modalities": (["text"],),
    "priority": (0,),
    "response_format": ({"type": "text"},),
    "return_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
}
# Fields that would change the answer and are not obeyed yet: refused by name.
REFUSED = frozenset(_NEUTRAL) | {
    "audio",
    "cache_salt",
    "chat_template",
    "function_call",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "prediction",
    "prompt_logprobs",
    "reasoning_effort",
    "structured_outputs",
    "truncate_prompt_tokens",
    "web_search_options",
}


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``, with vLLM's addition."""

    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None
    """Against eavesdroppers who measure packets; nothing is padded here, so it has no effect."""


def _stop_strings(value: Any) -> Any:
    """One string or several; not a pydantic union, whose errors name its branches as fields."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise PydanticCustomError("stop_type", "must be a string or an array of strings")


_STOP_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "null"},
    ]
}
StopStrings = Annotated[
    tuple[str, ...], BeforeValidator(_stop_strings), WithJsonSchema(_STOP_SCHEMA)
]


class GenerationBody(BaseModel):
    """Fields of both endpoints. Unknown ones are kept, to be reported."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None
    stop: StopStrings = ()
    stop_token_ids: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def ignored_fields(self) -> list[str]:
        """Names nobody knows, sorted; raises for known ones that are not obeyed.

        Raises:
            UnsupportedField: A field that would change the answer is not obeyed by this server.
        """
        extra = self.model_extra or {}
        for name in sorted(extra.keys() & REFUSED):
            value = extra[name]
            if value is not None and value not in _NEUTRAL.get(name, ()):
                raise UnsupportedField(
                    f"'{name}' is not supported by this server. Leave it out.",
                    param=name,
                    code="unsupported_parameter",
                )
        options = self.stream_options and self.stream_options.model_extra
        inner = (f"stream_options.{name}" for name in options or ())
        return sorted((extra.keys() - REFUSED - WITHOUT_EFFECT).union(inner))

    def check_stream_options(self) -> None:
        """``stream_options`` only goes with ``stream: true``, as OpenAI has it."""
        if self.stream_options is not None and not self.stream:
            raise UnsupportedField(
                "'stream_options' is only allowed when 'stream' is true.", param="stream_options"
            )

    def overrides(self, *, max_tokens: int | None, logprobs: int | None) -> SamplingOverrides:
        """The sampling part of this body."""
        return SamplingOverrides(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            max_tokens=max_tokens,
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            logit_bias=self._logit_bias(),
            logprobs=logprobs,
            stop=self.stop,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            n=self.n or 1,
        )

    def _logit_bias(self) -> dict[int, float] | None:
        biases = self.logit_bias or {}
        if not all(map(_TOKEN_ID.fullmatch, biases)):
            raise InvalidRequest("The keys of 'logit_bias' must be token ids.", param="logit_bias")
        return {int(key): bias for key, bias in biases.items()} or None
