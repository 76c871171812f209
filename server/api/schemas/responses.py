"""``POST /v1/responses``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from server.api.schemas.common import WITHOUT_EFFECT, StopStrings, TokenId
from server.api.schemas.response_tools import flat_tool_use, text_constraint
from server.api.schemas.sampling import RepetitionPenalty
from server.api.schemas.shapes import DescribedAs
from server.api.schemas.shapes_items import (
    ConversationName,
    FlatFormat,
    FlatToolChoice,
    FlatTools,
    Input,
)
from server.api.schemas.stored import Metadata
from server.errors import InvalidRequest, UnsupportedField
from server.generation.calls import ChatCall
from server.generation.sampling import SamplingOverrides

LOGPROBS: Final = "message.output_text.logprobs"
# Details of tools and inputs that no answer here has, so that there is nothing to leave out.
_NOTHING_TO_INCLUDE: Final = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
# Asked for by clients that keep the conversation themselves; reasoning is sent openly instead.
_ENCRYPTED: Final = "reasoning.encrypted_content"
_INCLUDABLE: Final = _NOTHING_TO_INCLUDE | {LOGPROBS, _ENCRYPTED}
Includable = Annotated[str, Field(json_schema_extra={"enum": sorted(_INCLUDABLE)})]
_REMEDIES: Final[Mapping[str, str]] = {
    "context_management": "Use 'truncation': \"auto\".",
    "moderation": "Leave it out.",
    "prompt": "Send 'instructions' and 'input'.",
}
_WITHOUT_EFFECT: Final = WITHOUT_EFFECT | {"prompt_cache_options"}


def _conversation_id(value: Any) -> Any:
    """An id, or an object with one."""
    if value is None:
        return None
    number = value.get("id") if isinstance(value, Mapping) else value
    if not isinstance(number, str):
        raise PydanticCustomError("conversation_type", "must be an id or an object with an 'id'")
    return number


ConversationId = Annotated[
    str | None,
    BeforeValidator(_conversation_id),
    DescribedAs(str | ConversationName | None),
]


class _Options(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class ReasoningOptions(_Options):
    """``reasoning``."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class TextOptions(_Options):
    """``text``."""

    format: Annotated[dict[str, Any], DescribedAs(FlatFormat)] | None = None


class ResponseStreamOptions(_Options):
    """``stream_options``; nothing is padded here, so it has no effect."""

    include_obfuscation: bool | None = None


class ResponseBody(BaseModel):
    """A response to be made. Unknown fields are kept, to be reported.

    Items stay plain: `items.read_items` knows their shapes and names the faulty part.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[Any, DescribedAs(Input)] = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: ConversationId = None
    truncation: Literal["auto", "disabled"] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[Any], DescribedAs(FlatTools)] | None = None
    tool_choice: Annotated[Any, DescribedAs(FlatToolChoice)] = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[str], DescribedAs(list[Includable])] | None = None
    metadata: Metadata = Field(default_factory=dict)
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    background: bool | None = None
    reasoning: ReasoningOptions | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    # This server's own, as in chat completions.
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopStrings = ()
    stop_token_ids: list[TokenId] | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None

    @property
    def stored(self) -> bool:
        """Whether the response is kept, as it is unless the caller says otherwise."""
        return self.store is not False

    @property
    def logprobs(self) -> int | None:
        """How many likely tokens to show beside each; None: not even the drawn one's."""
        return (self.top_logprobs or 0) if LOGPROBS in (self.include or ()) else None

    def ignored_fields(self) -> list[str]:
        """Names of what is not obeyed, sorted; raises where it would change the answer.

        Raises:
            InvalidRequest: Fields contradict each other, or one is not obeyed by this server.
        """
        self._check()
        extra = self.model_extra or {}
        for name in sorted(extra.keys() & _REMEDIES.keys()):
            if extra[name] is not None:
                raise UnsupportedField(
                    f"'{name}' is not supported by this server. {_REMEDIES[name]}",
                    param=name,
                    code="unsupported_parameter",
                )
        names = extra.keys() - _REMEDIES.keys() - _WITHOUT_EFFECT
        for outer in ("text", "reasoning", "stream_options"):
            inner = getattr(self, outer)
            said = (inner.model_extra or {}) if inner is not None else {}
            names |= {f"{outer}.{name}" for name, value in said.items() if value is not None}
        if _ENCRYPTED in (self.include or ()):
            names.add(f"include.{_ENCRYPTED}")
        return sorted(names)

    def call(self, messages: Sequence[Mapping[str, Any]]) -> ChatCall:
        """The call this body asks for.

        Args:
            messages: All that the model is to know, in the form of chat completions.

        Raises:
            InvalidRequest: Tools or format are wrong.
        """
        return ChatCall(
            model=self.model,
            messages=messages,
            sampling=SamplingOverrides(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                repetition_penalty=self.repetition_penalty,
                seed=self.seed,
                stop=self.stop,
                stop_token_ids=tuple(self.stop_token_ids or ()),
                min_tokens=self.min_tokens,
                ignore_eos=self.ignore_eos,
                max_tokens=self.max_output_tokens,
                logprobs=self.logprobs,
                constraint=text_constraint(self.text.format if self.text else None),
            ),
            tools=flat_tool_use(self.tools, self.tool_choice, self.parallel_tool_calls),
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
            overflow=_OVERFLOWS[self.truncation] if self.truncation else None,
        )

    def _check(self) -> None:
        if self.previous_response_id and self.conversation:
            raise InvalidRequest(
                "'previous_response_id' and 'conversation' exclude each other: send one of them.",
                param="conversation",
            )
        if self.background and not self.stored:
            raise InvalidRequest(
                "A response with 'background': true must be stored: leave 'store' out.",
                param="background",
            )
        unknown = set(self.include or ()) - _INCLUDABLE
        if unknown:
            raise InvalidRequest(
                f"'{min(unknown)}' is nothing that 'include' can ask for.",
                param="include",
                code="invalid_value",
            )
        if self.top_logprobs and self.logprobs is None:
            raise InvalidRequest(
                f"'top_logprobs' needs 'include' to hold '{LOGPROBS}'.", param="top_logprobs"
            )
        if self.stream_options is not None and not self.stream:
            raise UnsupportedField(
                "'stream_options' is only allowed when 'stream' is true.", param="stream_options"
            )


_OVERFLOWS: Final[Mapping[str, Literal["error", "drop_oldest"]]] = {
    "auto": "drop_oldest",
    "disabled": "error",
}
