"""What the Responses and Conversations APIs answer: see `answers`."""

from __future__ import annotations

from typing import Any, Literal

from server.api.schemas.answers import Answer
from server.api.schemas.answers_generation import ScoredToken

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Answer):
    """Text that went in."""

    type: Literal["input_text"]
    text: str


class OutputText(Answer):
    """Text of an answer; log-probabilities where it was made here."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[ScoredToken] | None = None


class Refusal(Answer):
    """An answer that refuses, sent in by the caller."""

    type: Literal["refusal"]
    refusal: str


class MessageItem(Answer):
    """A message."""

    id: str
    type: Literal["message"]
    status: Status
    role: Literal["user", "system", "developer", "assistant"]
    content: list[InputText | OutputText | Refusal]


class CallItem(Answer):
    """A tool call; its arguments are JSON text."""

    id: str
    type: Literal["function_call"]
    status: Status
    call_id: str
    name: str
    arguments: str


class CallOutputItem(Answer):
    """What a tool call came to."""

    id: str
    type: Literal["function_call_output"]
    status: Status
    call_id: str
    output: str | list[InputText]


class ThoughtText(Answer):
    """Text of a thought or of its summary."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ThoughtItem(Answer):
    """Reasoning."""

    id: str
    type: Literal["reasoning"]
    status: Status
    summary: list[ThoughtText]
    content: list[ThoughtText]


AnyItem = MessageItem | CallItem | CallOutputItem | ThoughtItem


class ItemList(Answer):
    """A page of items; the ids are null where it is empty."""

    object: Literal["list"]
    data: list[AnyItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CachedDetails(Answer):
    """Input tokens that came from the prefix cache."""

    cached_tokens: int


class ReasoningDetails(Answer):
    """Output tokens that were reasoning."""

    reasoning_tokens: int


class ResponseUsage(Answer):
    """Token counts of one response."""

    input_tokens: int
    input_tokens_details: CachedDetails
    output_tokens: int
    output_tokens_details: ReasoningDetails
    total_tokens: int


class ResponseFailure(Answer):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(Answer):
    """Why a response ends early."""

    reason: str


class ConversationReference(Answer):
    """The conversation that a response belongs to."""

    id: str


class UsedReasoning(Answer):
    """How much reasoning was asked for."""

    effort: str | None
    summary: None


class UsedText(Answer):
    """The form of the answer."""

    format: dict[str, Any]


class OfferedTool(Answer):
    """A function that the answer could call."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any]
    strict: bool | None


class ResponseObject(Answer):
    """A response, made or being made; what the caller left open shows what is used."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    completed_at: int | None
    error: ResponseFailure | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[AnyItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    conversation: ConversationReference | None
    prompt_cache_key: str | None
    reasoning: UsedReasoning
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: UsedText
    tool_choice: str | dict[str, Any]
    tools: list[OfferedTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class ConversationObject(Answer):
    """A conversation without its items."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class DeletedResponse(Answer):
    """That a response is forgotten."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class DeletedConversation(Answer):
    """That a conversation is forgotten."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]
