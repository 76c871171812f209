"""``POST /tokenize`` and ``/detokenize``, as vLLM defines them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from server.api.schemas.common import TokenId
from server.api.schemas.shapes import DescribedAs
from server.api.schemas.shapes_chat import Conversation, Tools
from server.api.schemas.tools import tool_use
from server.errors import InvalidRequest, UnsupportedField
from server.generation.calls import ChatCall

# Fields that say nothing about a text.
_OF_CONVERSATIONS: Final = (
    "add_generation_prompt",
    "chat_template_kwargs",
    "continue_final_message",
    "tools",
)


def _has(field: str) -> dict[str, Any]:
    """A JSON schema: there is this field, and it is not null."""
    return {"required": [field], "properties": {field: {"not": {"type": "null"}}}}


class TokenizeBody(BaseModel):
    """A text or a conversation. Unknown fields are kept, to be reported."""

    model_config = ConfigDict(
        strict=True, extra="allow", json_schema_extra={"oneOf": [_has("prompt"), _has("messages")]}
    )

    model: Annotated[str, Field(min_length=1)]
    prompt: str | None = None
    messages: Annotated[list[dict[str, Any]], DescribedAs(Conversation)] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], DescribedAs(Tools)] | None = None
    return_token_strs: bool | None = None

    def ignored_fields(self) -> list[str]:
        """Names of what is not obeyed, sorted.

        Raises:
            UnsupportedField: A field that would change the tokens is not obeyed by this server.
        """
        extra = self.model_extra or {}
        if extra.get("chat_template") is not None:
            raise UnsupportedField(
                "'chat_template' is not supported by this server. Set 'template' of the model's "
                "entry in model_registry.yaml.",
                param="chat_template",
                code="unsupported_parameter",
            )
        ignored = extra.keys() - {"chat_template"}
        if self.messages is None:
            ignored |= {name for name in _OF_CONVERSATIONS if getattr(self, name)}
        elif self.add_special_tokens:
            # The prompt has those that it needs.
            ignored |= {"add_special_tokens"}
        return sorted(ignored)

    def call(self) -> ChatCall | None:
        """The conversation; None if the body holds a text.

        Raises:
            InvalidRequest: It holds neither or both, or something about its tools is wrong.
        """
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
        tools = tool_use(self.tools, None, None)
        if self.messages is None:
            return None
        continues = bool(self.continue_final_message)
        generation_prompt = self.add_generation_prompt
        return ChatCall(
            model=self.model,
            messages=self.messages,
            add_generation_prompt=not continues if generation_prompt is None else generation_prompt,
            continue_final_message=continues,
            template_kwargs=self.chat_template_kwargs,
            tools=tools,
        )


class DetokenizeBody(BaseModel):
    """Token ids. Unknown fields are kept, to be reported."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1)]
    tokens: list[TokenId]

    def ignored_fields(self) -> list[str]:
        """Names nobody knows, sorted."""
        return sorted(self.model_extra or ())
