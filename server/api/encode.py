"""Deltas to response bodies and to server-sent events, as bytes.

A chunk of a stream differs from the one before in one string, so its frame is a constant head, the
text as JSON, and a constant tail: 0.5 µs instead of 28 µs through a pydantic model (vLLM 0.32,
benchmarks/RESULTS.md).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal

import orjson
import structlog

from server import __version__
from server.api.envelope import encode_error
from server.api.error_handlers import describe
from server.api.logprobs import TokenBytes, chat_logprobs, text_logprobs
from server.engines.base import Delta, FinishReason, PositionLogprobs
from server.generation.assembler import Choice, Result, Usage

log = structlog.get_logger(__name__)

DONE = b"data: [DONE]\n\n"
FINGERPRINT = f"corral-{__version__}"
Kind = Literal["chat", "text"]


class Frame:
    """What all chunks and the final object of one response have in common.

    Args:
        kind: ``chat`` for chat completions, ``text`` for legacy ones.
        request_id: Without prefix.
        model: The registry id.
        token_bytes: Maps the model's token ids to bytes.
        top_logprobs: Likeliest tokens to show at each position of a chat completion.
    """

    def __init__(
        self,
        kind: Kind,
        request_id: str,
        model: str,
        token_bytes: TokenBytes,
        *,
        top_logprobs: int | None = None,
    ) -> None:
        self.kind = kind
        self.token_bytes = token_bytes
        self.id = ("chatcmpl-" if kind == "chat" else "cmpl-") + request_id
        self.created = int(time.time())
        self.model = model
        self.top_logprobs = top_logprobs or 0

    def logprobs(self, positions: Sequence[PositionLogprobs] | None) -> dict[str, Any] | None:
        """The ``logprobs`` of a chat choice."""
        return chat_logprobs(positions, self.top_logprobs, self.token_bytes)

    def head(self, object_name: str) -> dict[str, Any]:
        """The fields in front of ``choices``."""
        return {
            "id": self.id,
            "object": object_name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's ``usage``, with what was dropped from the conversation as a detail."""
    details: dict[str, int] = {"cached_tokens": usage.cached_tokens}
    if usage.dropped_messages:
        details["dropped_messages"] = usage.dropped_messages
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": details,
    }


def chat_body(frame: Frame, result: Result, usage: Usage) -> bytes:
    """A whole ``chat.completion`` object."""
    choices = [
        {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": frame.logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        for choice in result.choices
    ]
    body = frame.head("chat.completion") | {"choices": choices, "usage": usage_body(usage)}
    return orjson.dumps(body)


def text_body(frame: Frame, choices: Sequence[Choice], usage: Usage) -> bytes:
    """A whole ``text_completion`` object; ``choices`` carry their final indexes."""
    encoded = [
        {
            "index": choice.index,
            "text": choice.text,
            "logprobs": text_logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }
        for choice in choices
    ]
    return orjson.dumps(
        frame.head("text_completion") | {"choices": encoded, "usage": usage_body(usage)}
    )


class ChunkEncoder:
    """Frames of one stream.

    Args:
        frame: The response.
        prompt_tokens: For usage.
        include_usage: Whether a usage chunk ends the stream (and ``usage: null`` is in the others).
        continuous_usage: Whether, besides, every chunk carries the usage so far (vLLM's option).
        dropped_messages: For usage.
        choices_per_prompt: Choices that share a prompt; each tells its cached tokens anew.
    """

    def __init__(
        self,
        frame: Frame,
        *,
        prompt_tokens: int,
        include_usage: bool = False,
        continuous_usage: bool = False,
        dropped_messages: int = 0,
        choices_per_prompt: int = 1,
    ) -> None:
        self._frame = frame
        self._chat = frame.kind == "chat"
        name = "chat.completion.chunk" if self._chat else "text_completion"
        self._head = b"data: " + orjson.dumps(frame.head(name))[:-1] + b',"choices":['
        self._continuous_usage = include_usage and continuous_usage
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._prompt_tokens = prompt_tokens
        self._dropped_messages = dropped_messages
        self._completion_tokens = 0
        self._choices_per_prompt = choices_per_prompt
        self._cached_tokens: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._heads: dict[int, bytes] = {}

    def role(self, index: int) -> bytes:
        """The chunk that opens a choice of a chat stream."""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""},' % index
        return self._head + delta + b'"logprobs":null,"finish_reason":null}' + self._end()

    def delta(self, delta: Delta) -> bytes:
        """The chunks for one delta: its text, and the finish reason in a chunk of its own."""
        self._completion_tokens += len(delta.token_ids)
        if delta.cached_tokens:
            self._cached_tokens[delta.index // self._choices_per_prompt] = delta.cached_tokens
        finish = delta.finish_reason
        if not self._chat:
            return self._text_chunk(delta)
        frames = b""
        if delta.text or delta.logprobs:
            frames = self._chat_head(delta.index) + orjson.dumps(delta.text)
            if delta.logprobs:
                frames += b'},"logprobs":' + orjson.dumps(self._frame.logprobs(delta.logprobs))
                frames += b',"finish_reason":null}'
            else:
                frames += b'},"logprobs":null,"finish_reason":null}'
            frames += self._end()
        if finish is not None:
            frames += self._head + b'{"index":%d,"delta":{},"logprobs":null,' % delta.index
            frames += b'"finish_reason":"%s"}' % finish.encode() + self._end()
        return frames

    def usage(self) -> bytes:
        """The last chunk before ``[DONE]``, with no choices."""
        return self._head + b'],"usage":' + orjson.dumps(usage_body(self._usage())) + b"}\n\n"

    def _chat_head(self, index: int) -> bytes:
        head = self._heads.get(index)
        if head is None:
            head = self._heads[index] = self._head + b'{"index":%d,"delta":{"content":' % index
        return head

    def _text_chunk(self, delta: Delta) -> bytes:
        if not delta.text and delta.finish_reason is None and not delta.logprobs:
            return b""
        logprobs = None
        if delta.logprobs:
            offset = self._offsets.get(delta.index, 0)
            logprobs = text_logprobs(delta.logprobs, offset)
            # By tokens, not by `delta.text`: that lags behind them where a stop string may begin.
            drawn = sum(len(position.drawn.token) for position in delta.logprobs)
            self._offsets[delta.index] = offset + drawn
        return (
            self._head
            + b'{"index":%d,"text":' % delta.index
            + orjson.dumps(delta.text)
            + b',"logprobs":'
            + orjson.dumps(logprobs)
            + b',"finish_reason":'
            + _finish(delta.finish_reason)
            + b"}"
            + self._end()
        )

    def _end(self) -> bytes:
        if not self._continuous_usage:
            return self._tail
        return b'],"usage":' + orjson.dumps(usage_body(self._usage())) + b"}\n\n"

    def _usage(self) -> Usage:
        return Usage(
            self._prompt_tokens,
            self._completion_tokens,
            sum(self._cached_tokens.values()),
            self._dropped_messages,
        )


async def frames(
    encoder: ChunkEncoder,
    first: Delta | None,
    rest: AsyncGenerator[Delta, None],
    *,
    choices: int,
    roles: bool,
    include_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """All frames of a stream whose first delta is already there.

    OpenAI's order: role, deltas, finish_reason, usage when asked, ``[DONE]``. A failure ends the
    stream with one typed error event and no ``[DONE]``.
    """
    async with aclosing(rest):
        try:
            opening = b"".join(encoder.role(index) for index in range(choices)) if roles else b""
            if first is not None:
                opening += encoder.delta(first)
            if opening:
                yield opening
            async for delta in rest:
                if frame := encoder.delta(delta):
                    yield frame
        except Exception as error:
            status, body, _ = describe(error)
            log.warning("stream failed", status=status, error=str(error), exc_info=status == 500)
            yield error_event(body)
            return
    yield encoder.usage() + DONE if include_usage else DONE


def error_event(body: Mapping[str, Any]) -> bytes:
    """An error inside a stream: OpenAI's SDKs raise on a ``data:`` event with an ``error``."""
    return b"data: " + encode_error(body) + b"\n\n"


def _finish(reason: FinishReason | None) -> bytes:
    return b"null" if reason is None else b'"%s"' % reason.encode()
