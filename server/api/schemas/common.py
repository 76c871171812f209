"""What chat and text completions share."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from server.api.schemas.sampling import SamplingFields
from server.api.schemas.shapes import AtLeastOne, DescribedAs, NotZero
from server.api.schemas.shapes_chat import ResponseFormat, StructuredOutputs
from server.api.schemas.structured import constraint_of
from server.errors import InvalidRequest, UnsupportedField
from server.generation.calls import Scheduling
from server.generation.sampling import LONGEST_STOP, MOST_STOPS, SamplingOverrides

_TOKEN_ID = re.compile(r"-?[0-9]{1,18}")

# Fields of OpenAI's and vLLM's APIs that ask for nothing that concerns the text of an answer.
WITHOUT_EFFECT = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
# Values of refused fields that ask for nothing special.
_NEUTRAL: Mapping[str, Collection[Any]] = {
    "best_of": (1,),
    "documents": ([],),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "length_penalty": (1, 1.0),
    "modalities": (["text"],),
    "use_beam_search": (False,),
}
# Fields that would change the answer and are not obeyed: refused by name, with a way out if any.
_REMEDIES: Mapping[str, str] = {
    "audio": "The models here write text only.",
    "best_of": "Ask for several choices with 'n'.",
    "chat_template": "Set 'template' of the model's entry in model_registry.yaml.",
    "documents": "Put the documents into a message.",
    "function_call": "Use 'tool_choice'.",
    "functions": "Use 'tools'.",
    "guided_choice": "Use 'structured_outputs': {\"choice\": [...]}.",
    "guided_grammar": "Use 'structured_outputs': {\"grammar\": ...}.",
    "guided_json": "Use 'structured_outputs': {\"json\": ...}.",
    "guided_regex": "Use 'structured_outputs': {\"regex\": ...}.",
    "length_penalty": "It belongs to beam search, which is not offered.",
    "modalities": "The models here write text only.",
    "prediction": "Leave it out.",
    "use_beam_search": "Leave it out, or ask for several choices with 'n'.",
    "web_search_options": "Leave it out.",
}
REFUSED = frozenset(_REMEDIES)


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
BadWord = Annotated[str, Field(min_length=1, max_length=256)]
Bias = Annotated[float, Field(ge=-100, le=100)]
_TokenKeys = Field(json_schema_extra={"propertyNames": {"pattern": f"^{_TOKEN_ID.pattern}$"}})


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``, with vLLM's addition."""

    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None
    """Against eavesdroppers who measure packets; nothing is padded here, so it has no effect."""
    include_progress: bool | None = None
    """Ours: begin the stream at once, with events that tell how the model is being loaded."""


def _stop_strings(value: Any) -> Any:
    """One string or several; not a pydantic union, whose errors name its branches as fields."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise PydanticCustomError("stop_type", "must be a string or an array of strings")


StopString = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
StopList = Annotated[list[StopString], Field(max_length=MOST_STOPS)]
StopStrings = Annotated[
    tuple[str, ...],
    BeforeValidator(_stop_strings),
    DescribedAs(StopString | StopList | None),
]
TruncatePromptTokens = Annotated[int, Field(ge=-1, lt=2**31), NotZero]


class GenerationBody(SamplingFields):
    """Fields of both endpoints. Unknown ones are kept, to be reported."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1)]
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None
    stop: StopStrings = ()
    stop_token_ids: list[TokenId] | None = None
    allowed_token_ids: Annotated[list[TokenId], AtLeastOne] | None = None
    bad_words: Annotated[list[BadWord], Field(max_length=256)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    truncate_prompt_tokens: TruncatePromptTokens | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Annotated[dict[str, Any], DescribedAs(ResponseFormat)] | None = None
    structured_outputs: Annotated[dict[str, Any], DescribedAs(StructuredOutputs)] | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    request_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    return_token_ids: bool | None = None
    echo: bool | None = None
    logit_bias: Annotated[dict[str, Bias], _TokenKeys] | None = None
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
                    f"'{name}' is not supported by this server. {_REMEDIES[name]}",
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
            prompt_logprobs=self._prompt_logprobs(),
            allowed_token_ids=self._allowed_token_ids(),
            bad_words=None if self.bad_words is None else tuple(self.bad_words),
            include_stop_str_in_output=self.include_stop_str_in_output,
            skip_special_tokens=self.skip_special_tokens,
            spaces_between_special_tokens=self.spaces_between_special_tokens,
            constraint=constraint_of(self.response_format, self.structured_outputs),
            logprobs=logprobs,
            stop=self.stop,
            stop_token_ids=tuple(self.stop_token_ids or ()),
            n=self.n or 1,
        )

    def scheduling(self) -> Scheduling:
        """The part of this body that is about how it is computed."""
        return Scheduling(
            request_id=self.request_id,
            priority=self.priority or 0,
            cache_salt=self.cache_salt,
            truncate_prompt_tokens=self._truncate_prompt_tokens(),
        )

    def _truncate_prompt_tokens(self) -> int | None:
        if self.truncate_prompt_tokens == 0:
            raise InvalidRequest(
                "'truncate_prompt_tokens' must be -1 (as many as fit) or at least 1.",
                param="truncate_prompt_tokens",
            )
        return self.truncate_prompt_tokens

    def _prompt_logprobs(self) -> int | None:
        if self.prompt_logprobs is not None and self.stream:
            raise InvalidRequest(
                "'prompt_logprobs' are not available when 'stream' is true.",
                param="prompt_logprobs",
            )
        return self.prompt_logprobs

    def _allowed_token_ids(self) -> tuple[int, ...] | None:
        if self.allowed_token_ids == []:
            raise InvalidRequest(
                "'allowed_token_ids' must hold at least one token id.", param="allowed_token_ids"
            )
        return None if self.allowed_token_ids is None else tuple(self.allowed_token_ids)

    def _logit_bias(self) -> dict[int, float] | None:
        biases = self.logit_bias or {}
        if not all(map(_TOKEN_ID.fullmatch, biases)):
            raise InvalidRequest("The keys of 'logit_bias' must be token ids.", param="logit_bias")
        return {int(key): bias for key, bias in biases.items()} or None
