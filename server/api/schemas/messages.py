"""``POST /v1/messages`` and ``/v1/messages/count_tokens``, as Anthropic defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from server.api.schemas.common import StopList
from server.api.schemas.json_schema import checked_schema
from server.api.schemas.message_blocks import ChatMessage, chat_messages
from server.api.schemas.message_tools import tool_use
from server.api.schemas.shapes import DescribedAs
from server.api.schemas.shapes_messages import (
    CustomTools,
    Messages,
    ModeChoice,
    OutputConfig,
    System,
    Thinking,
    ToolChoice,
)
from server.engines.base import Constraint
from server.errors import InvalidRequest, UnsupportedField
from server.generation.calls import ChatCall
from server.generation.sampling import SamplingOverrides

# Fields of Anthropic's API that ask for nothing that concerns the text of an answer.
_WITHOUT_EFFECT: Final = frozenset(
    {"cache_control", "inference_geo", "metadata", "service_tier", "speed"}
)
_REFUSED: Final[Mapping[str, str]] = {
    "container": "This server runs no code.",
    "mcp_servers": "Let the client call MCP tools and offer them as 'tools'.",
}
_THINKING: Final = ("adaptive", "disabled", "enabled")
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
# Where the caller wants reasoning and does not say how much.
_USUAL_EFFORT: Final = "medium"


class CountTokensBody(BaseModel):
    """What makes up a prompt. Unknown fields are kept, to be reported.

    Messages, tools and the like stay plain dicts: those who read them name the faulty part.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[dict[str, Any]], DescribedAs(Messages)]
    system: Annotated[Any, DescribedAs(System)] = None
    tools: Annotated[list[dict[str, Any]], DescribedAs(CustomTools)] | None = None
    tool_choice: Annotated[dict[str, Any], DescribedAs(ModeChoice | ToolChoice)] | None = None
    thinking: Annotated[dict[str, Any], DescribedAs(Thinking)] | None = None
    output_config: Annotated[dict[str, Any], DescribedAs(OutputConfig)] | None = None

    def ignored_fields(self) -> list[str]:
        """Names of what is not obeyed, sorted.

        Raises:
            UnsupportedField: A field that would change the answer is not obeyed by this server.
        """
        extra = self.model_extra or {}
        for name, remedy in _REFUSED.items():
            if extra.get(name) not in (None, []):
                raise UnsupportedField(
                    f"'{name}' is not supported by this server. {remedy}", param=name
                )
        ignored = extra.keys() - _REFUSED.keys() - _WITHOUT_EFFECT
        if "budget_tokens" in (self.thinking or {}):
            ignored = ignored | {"thinking.budget_tokens"}
        return sorted(ignored)

    def unused_fields(self, unused: tuple[str, ...], *, reasons: bool) -> list[str]:
        """What of the call means nothing to the model, by the names that this API has for it.

        Args:
            unused: `PreparedRequest.unused`.
            reasons: Whether the model reasons all the same.
        """
        if "reasoning_effort" not in unused:
            return []
        wanted = self._thinks()
        missed = ["thinking"] if wanted is not None and wanted != reasons else []
        return missed + (["output_config.effort"] if self._effort() else [])

    def call(self) -> ChatCall:
        """The call this body asks for.

        Raises:
            InvalidRequest: A field is wrong; ``param`` is its path.
        """
        messages = chat_messages(self.messages, self.system)
        continues = _continues(messages, f"messages.{len(self.messages) - 1}")
        thinks = self._thinks()
        effort = self._effort()
        if thinks is False:
            effort = "none"
        elif thinks:
            effort = effort or _USUAL_EFFORT
        hidden = (self.thinking or {}).get("display") == "omitted"
        return ChatCall(
            model=self.model,
            messages=messages,
            sampling=self._sampling(),
            add_generation_prompt=not continues,
            continue_final_message=continues,
            tools=tool_use(self.tools, self.tool_choice),
            reasoning_effort=effort,
            include_reasoning=thinks is not False and not hidden,
        )

    def _sampling(self) -> SamplingOverrides:
        return SamplingOverrides(constraint=self._constraint())

    def _thinks(self) -> bool | None:
        """Whether the model is to reason; None leaves it to the model."""
        if self.thinking is None:
            return None
        kind = self.thinking.get("type")
        if kind not in _THINKING:
            raise InvalidRequest(
                f"'thinking.type' must be one of: {', '.join(_THINKING)}.", param="thinking.type"
            )
        return bool(kind != "disabled")

    def _effort(self) -> str | None:
        effort = (self.output_config or {}).get("effort")
        if effort is not None and effort not in _EFFORTS:
            raise InvalidRequest(
                f"'output_config.effort' must be one of: {', '.join(_EFFORTS)}.",
                param="output_config.effort",
            )
        return effort

    def _constraint(self) -> Constraint | None:
        said = (self.output_config or {}).get("format")
        if said is None:
            return None
        if not isinstance(said, Mapping) or said.get("type") != "json_schema":
            raise InvalidRequest(
                "'output_config.format' must be an object of type 'json_schema'.",
                param="output_config.format",
            )
        param = "output_config.format.schema"
        return Constraint("json", checked_schema(said.get("schema"), param), param)


class MessagesBody(CountTokensBody):
    """A request for an answer."""

    max_tokens: Annotated[int, Field(ge=1, lt=2**31)]
    stop_sequences: Annotated[list[str], DescribedAs(StopList)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stream: bool | None = None

    def _sampling(self) -> SamplingOverrides:
        return SamplingOverrides(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
            constraint=self._constraint(),
        )


def _continues(messages: list[ChatMessage], where: str) -> bool:
    """Whether the answer goes on from the last message, as an assistant's at the end has it."""
    last = messages[-1]
    if last["role"] != "assistant":
        return False
    if last.get("tool_calls"):
        raise InvalidRequest(
            "The last message calls tools: send their results after it, in a user message.",
            param=where,
        )
    return True
