"""What the Messages API answers: see `answers`."""

from __future__ import annotations

from typing import Any, Literal

from server.api.schemas.answers import Answer, Responses, errors, refer


class MessageErrorDetail(Answer):
    """What is wrong; the message names the field."""

    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "api_error",
        "overloaded_error",
    ]
    message: str


class MessageErrorBody(Answer):
    """Anthropic's error envelope."""

    type: Literal["error"]
    error: MessageErrorDetail
    request_id: str


class SaidBlock(Answer):
    """What was said."""

    type: Literal["text"]
    text: str


class ThoughtBlock(Answer):
    """What was thought; nothing signs it."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class CalledBlock(Answer):
    """A tool call."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingDetails(Answer):
    """Tokens of an answer that were reasoning."""

    thinking_tokens: int


class MessageUsage(Answer):
    """Token counts; ``input_tokens`` are those that the prefix cache did not have."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingDetails | None = None


StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class MessageBase(Answer):
    """What a message has whole and at the beginning of a stream."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[SaidBlock | ThoughtBlock | CalledBlock]
    stop_sequence: str | None
    usage: MessageUsage


class MessageObject(MessageBase):
    """A whole answer."""

    stop_reason: StopReason


class MessageStub(MessageBase):
    """An answer that has just begun."""

    stop_reason: None


class TokenCount(Answer):
    """How many tokens a conversation takes."""

    input_tokens: int


def message_errors(*statuses: int) -> Responses:
    """`errors` in Anthropic's envelope, with its header."""
    described = errors(*statuses, body=MessageErrorBody)
    for error in described.values():
        error["headers"] |= refer("request-id")
    return described
