"""The events of streams: see `answers`."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel

from server.api.schemas.admin import HerdEvent
from server.api.schemas.answers import Answer, ErrorBody
from server.api.schemas.answers_generation import (
    ChatScores,
    TextScores,
    UsageObject,
)
from server.api.schemas.answers_messages import (
    CalledBlock,
    MessageErrorBody,
    MessageStub,
    MessageUsage,
    SaidBlock,
    StopReason,
    ThoughtBlock,
)
from server.api.schemas.answers_stored import AnyItem, OutputText, ResponseObject, ThoughtText
from server.engines.states import Status as ModelStatus

FinishReason = Literal["stop", "length", "tool_calls"]


class CalledFunctionPiece(Answer):
    """The next part of a call's arguments; the name comes with the first."""

    name: str | None = None
    arguments: str


class CalledToolPiece(Answer):
    """A piece of a tool call; id and type come with the first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionPiece


class ChatDelta(Answer):
    """What a chunk adds to an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CalledToolPiece] | None = None


class ChunkChoice(Answer):
    """What chunks of both kinds have."""

    index: int
    finish_reason: FinishReason | None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class ChatChunkChoice(ChunkChoice):
    """What a chunk adds to one of the answers of a chat."""

    delta: ChatDelta
    logprobs: ChatScores | None


class TextChunkChoice(ChunkChoice):
    """What a chunk adds to one continuation."""

    text: str
    logprobs: TextScores | None


class Chunk(Answer):
    """What chunks of both kinds have; the last may have usage and no choices."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: UsageObject | None = None


class ChatChunk(Chunk):
    """An event of a streamed chat."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]


class TextChunk(Chunk):
    """An event of a streamed completion."""

    object: Literal["text_completion"]
    choices: list[TextChunkChoice]


class ProgressEvent(Answer):
    """What a stream waits for while its model is loaded, where the caller asked for it."""

    object: Literal["corral.progress"]
    model: str
    status: ModelStatus
    detail: str
    waiting: int


class MessageStart(Answer):
    """The first event of a message."""

    type: Literal["message_start"]
    message: MessageStub


class BlockStart(Answer):
    """A content block begins."""

    type: Literal["content_block_start"]
    index: int
    content_block: SaidBlock | ThoughtBlock | CalledBlock


class TextDelta(Answer):
    """More text."""

    type: Literal["text_delta"]
    text: str


class ThinkingDelta(Answer):
    """More reasoning."""

    type: Literal["thinking_delta"]
    thinking: str


class InputDelta(Answer):
    """More of a call's input, which is JSON text."""

    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(Answer):
    """A content block grows."""

    type: Literal["content_block_delta"]
    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(Answer):
    """A content block ends."""

    type: Literal["content_block_stop"]
    index: int


class MessageEnd(Answer):
    """Why a message ends."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Answer):
    """The end of a message, and its usage."""

    type: Literal["message_delta"]
    delta: MessageEnd
    usage: MessageUsage


class MessageMark(Answer):
    """The last event, or one that keeps the connection open."""

    type: Literal["message_stop", "ping"]


class ResponseEvent(Answer):
    """A response as it is now."""

    type: Literal[
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    sequence_number: int
    response: ResponseObject


class ItemEvent(Answer):
    """An item of the output begins or ends."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    sequence_number: int
    output_index: int
    item: AnyItem


class GrowingEvent(Answer):
    """What happens inside an item."""

    sequence_number: int
    item_id: str
    output_index: int


class PartEvent(GrowingEvent):
    """A part of an item begins or ends."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: int
    part: OutputText | ThoughtText


class DeltaEvent(GrowingEvent):
    """More of a text, of reasoning, or of a call's arguments."""

    type: Literal[
        "response.output_text.delta",
        "response.reasoning_text.delta",
        "response.function_call_arguments.delta",
    ]
    delta: str


class TextDoneEvent(GrowingEvent):
    """The whole of a text or of reasoning."""

    type: Literal["response.output_text.done", "response.reasoning_text.done"]
    content_index: int
    text: str


class ArgumentsDoneEvent(GrowingEvent):
    """The whole of a call's arguments."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


_Events = tuple[type[BaseModel], ...]
CHAT_EVENTS: Final[_Events] = (ChatChunk, ProgressEvent, ErrorBody)
TEXT_EVENTS: Final[_Events] = (TextChunk, ProgressEvent, ErrorBody)
MESSAGE_EVENTS: Final[_Events] = (
    MessageStart,
    BlockStart,
    BlockDelta,
    BlockStop,
    MessageDelta,
    MessageMark,
    MessageErrorBody,
)
RESPONSE_EVENTS: Final[_Events] = (
    ResponseEvent,
    ItemEvent,
    PartEvent,
    DeltaEvent,
    TextDoneEvent,
    ArgumentsDoneEvent,
    ErrorBody,
)
ADMIN_EVENTS: Final[_Events] = (HerdEvent,)
ALL_EVENTS: Final[_Events] = (
    *CHAT_EVENTS,
    *TEXT_EVENTS,
    *MESSAGE_EVENTS,
    *RESPONSE_EVENTS,
    *ADMIN_EVENTS,
)


def streamed(events: _Events, *, done: bool = False) -> dict[str, Any]:
    """The content of a stream: each event has JSON as its data.

    Args:
        events: What the JSON may be.
        done: Whether ``[DONE]`` follows.
    """
    refs = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in events]
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": refs},
    }
    if done:
        data = {"anyOf": [{"const": "[DONE]"}, data]}
    event = {
        "type": "object",
        "description": "One event.",
        "properties": {"event": {"type": "string"}, "data": data},
        "required": ["data"],
    }
    return {"text/event-stream": {"schema": event}}
