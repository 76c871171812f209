"""Whole answers of the Messages API, as bytes, and what they share with streams."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic_core import from_json

from server.engines.base import FinishReason
from server.generation.assembler import Choice, Result


@dataclass(frozen=True, slots=True)
class MessageFrame:
    """What all events and the whole answer to one request have in common.

    Args:
        response_id: Without prefix.
        model: The registry id.
        prompt_tokens: Cached ones included.
        stop_sequences: The caller's own.
        reasons: Whether usage tells how many tokens were reasoning.
    """

    response_id: str
    model: str
    prompt_tokens: int
    stop_sequences: Collection[str] = ()
    reasons: bool = False

    def message(
        self,
        content: list[dict[str, Any]],
        usage: dict[str, Any],
        *,
        stop_reason: str | None = None,
        stop_sequence: str | None = None,
    ) -> dict[str, Any]:
        """A ``message`` object; in a stream it opens without content and without an end."""
        return {
            "id": f"msg_{self.response_id}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": usage,
        }

    def usage(self, completion: int, cached: int, reasoning: int) -> dict[str, Any]:
        """Token counts; ``input_tokens`` are those that were not found in the prefix cache."""
        usage: dict[str, Any] = {
            "input_tokens": self.prompt_tokens - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": completion,
        }
        if self.reasons:
            usage["output_tokens_details"] = {"thinking_tokens": reasoning}
        return usage

    def end(
        self, finish: FinishReason | None, stopped_by: str | int | None, *, calls: bool
    ) -> tuple[str, str | None]:
        """``stop_reason`` and ``stop_sequence``.

        Args:
            finish: As the engine's deltas have it.
            stopped_by: Their stop reason; a prompt format's own is nothing that callers know of.
            calls: Whether the answer calls a tool.
        """
        if finish == "length":
            return "max_tokens", None
        if calls:
            return "tool_use", None
        if isinstance(stopped_by, str) and stopped_by in self.stop_sequences:
            return "stop_sequence", stopped_by
        return "end_turn", None


def message_body(frame: MessageFrame, result: Result) -> bytes:
    """The whole answer: its one choice as content blocks."""
    (choice,) = result.choices
    reason, sequence = frame.end(
        choice.finish_reason, choice.stop_reason, calls=bool(choice.tool_calls)
    )
    usage = frame.usage(result.completion_tokens, result.cached_tokens, result.reasoning_tokens)
    return orjson.dumps(
        frame.message(_content(choice), usage, stop_reason=reason, stop_sequence=sequence)
    )


def text_block(text: str = "") -> dict[str, Any]:
    """What was said."""
    return {"type": "text", "text": text}


def thinking_block(thinking: str = "") -> dict[str, Any]:
    """What was thought. Nothing here signs it, and nothing checks what comes back."""
    return {"type": "thinking", "thinking": thinking, "signature": ""}


def tool_use_block(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A tool call."""
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def _content(choice: Choice) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if choice.reasoning:
        blocks.append(thinking_block(choice.reasoning))
    if choice.text:
        blocks.append(text_block(choice.text))
    return blocks + [
        tool_use_block(call.id, call.name, _input(call.arguments)) for call in choice.tool_calls
    ]


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments, as far as they go: the length limit may have cut them off."""
    try:
        value = from_json(arguments, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
