"""Server-sent events of a streamed answer of the Messages API, as bytes.

https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import orjson
import structlog

from server.api.anthropic_errors import anthropic_envelope, new_request_id
from server.api.envelope import encode_error
from server.api.error_handlers import describe
from server.api.event_stream import Begun
from server.api.message_encode import MessageFrame, text_block, thinking_block, tool_use_block
from server.engines.base import Delta, FinishReason, ToolCallDelta

log = structlog.get_logger(__name__)

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
# Of a delta: its type, and the key of its one value.
_TEXT: Final = (b"text_delta", b"text")
_THINKING: Final = (b"thinking_delta", b"thinking")
_INPUT: Final = (b"input_json_delta", b"partial_json")


class MessageEncoder:
    """The events of one answer, in Anthropic's order.

    The answer is a row of blocks: thinking, text and tool calls. One is open at a time; what does
    not belong to it closes it and opens the next.
    """

    def __init__(self, frame: MessageFrame) -> None:
        self._frame = frame
        self._blocks = 0
        # What the open block holds: the block's type, or the index of a tool call.
        self._open: str | int | None = None
        self._head = b""
        self._called = False
        self._finish: FinishReason | None = None
        self._stopped_by: str | int | None = None
        self._completion_tokens = 0
        self._cached_tokens = 0
        self._reasoning_tokens = 0

    def start(self, first: Delta | None) -> bytes:
        """``message_start``. The first delta tells how much of the prompt was cached."""
        if first is not None:
            self._cached_tokens = first.cached_tokens
        message = self._frame.message([], self._usage())
        return _event("message_start", {"message": message})

    def delta(self, delta: Delta) -> bytes:
        """The events of one delta; none where it says nothing."""
        self._completion_tokens += len(delta.token_ids)
        self._cached_tokens = max(self._cached_tokens, delta.cached_tokens)
        self._reasoning_tokens += delta.reasoning_tokens
        if delta.finish_reason is not None:
            self._finish, self._stopped_by = delta.finish_reason, delta.stop_reason
        events = b""
        if delta.reasoning:
            events += self._opened("thinking", thinking_block)
            events += self._said(_THINKING, delta.reasoning)
        if delta.text:
            events += self._opened("text", text_block)
            events += self._said(_TEXT, delta.text)
        for piece in delta.tool_calls:
            events += self._tool_call(piece)
        return events

    def end(self) -> bytes:
        """The end of the open block, and of the message."""
        reason, sequence = self._frame.end(self._finish, self._stopped_by, calls=self._called)
        end = {"stop_reason": reason, "stop_sequence": sequence}
        message = _event("message_delta", {"delta": end, "usage": self._usage()})
        return self._closed() + message + _STOP

    def _tool_call(self, piece: ToolCallDelta) -> bytes:
        self._called = True
        events = self._opened(
            piece.index, lambda: tool_use_block(piece.id or "", piece.name or "", {})
        )
        if piece.arguments:
            events += self._said(_INPUT, piece.arguments)
        return events

    def _opened(self, what: str | int, block: Callable[[], dict[str, Any]]) -> bytes:
        """The events that it takes for ``what`` to be open."""
        if self._open == what:
            return b""
        events = self._closed()
        self._open = what
        index = self._blocks
        self._blocks += 1
        events += _event("content_block_start", {"index": index, "content_block": block()})
        # As Anthropic does, once.
        return events + PING if index == 0 else events

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        self._open, self._head = None, b""
        return _event("content_block_stop", {"index": self._blocks - 1})

    def _said(self, kind: tuple[bytes, bytes], value: str) -> bytes:
        """A delta of the open block: a constant head, the value as JSON, a constant tail."""
        if not self._head:
            name, key = kind
            self._head = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
                b'"delta":{"type":"%b","%b":' % (self._blocks - 1, name, key)
            )
        return self._head + orjson.dumps(value) + b"}}\n\n"

    def _usage(self) -> dict[str, Any]:
        return self._frame.usage(
            self._completion_tokens, self._cached_tokens, self._reasoning_tokens
        )


async def frames(
    encoder: MessageEncoder,
    deltas: Begun[Delta],
    *,
    request_id: str,
) -> AsyncGenerator[bytes, None]:
    """All events of a stream.

    A failure ends the stream with one ``error`` event and no ``message_stop``.
    """
    started = False
    async with aclosing(deltas):
        try:
            async for delta in deltas:
                opening = b"" if started else encoder.start(delta)
                started = True
                if events := opening + encoder.delta(delta):
                    yield events
            if not started:
                yield encoder.start(None)
        except Exception as error:
            status, body, _ = describe(error)
            log.warning("stream failed", status=status, error=str(error), exc_info=status == 500)
            yield error_event(status, body, request_id)
            return
    yield encoder.end()


def error_event(status: int, body: Mapping[str, Any], request_id: str | None = None) -> bytes:
    """An error inside a stream.

    Args:
        status: What the response's would have been.
        body: OpenAI's envelope.
        request_id: The response's, where it is known.
    """
    envelope = anthropic_envelope(status, body, request_id or new_request_id())
    return b"event: error\ndata: " + encode_error(envelope) + b"\n\n"


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    data = orjson.dumps({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
