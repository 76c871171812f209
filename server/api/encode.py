"""Whole response bodies, as bytes, and what they share with streams (`chunks`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import orjson

from server import __version__
from server.api.logprobs import TokenBytes, chat_logprobs, prompt_logprobs, text_logprobs
from server.engines.base import PositionLogprobs
from server.generation.assembler import Choice, Result, Usage

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
        token_ids: Whether the ids of prompt and answer are shown (vLLM's ``return_token_ids``).
    """

    def __init__(
        self,
        kind: Kind,
        request_id: str,
        model: str,
        token_bytes: TokenBytes,
        *,
        top_logprobs: int | None = None,
        token_ids: bool = False,
    ) -> None:
        self.kind = kind
        self.token_bytes = token_bytes
        self.id = ("chatcmpl-" if kind == "chat" else "cmpl-") + request_id
        self.created = int(time.time())
        self.model = model
        self.top_logprobs = top_logprobs or 0
        self.token_ids = token_ids

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
    body = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": details,
    }
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body


def chat_body(frame: Frame, result: Result, usage: Usage, prompt_token_ids: Sequence[int]) -> bytes:
    """A whole ``chat.completion`` object."""
    choices = [
        {
            "index": choice.index,
            "message": _message(choice),
            "logprobs": frame.logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            **_ids(frame, choice),
        }
        for choice in result.choices
    ]
    body = frame.head("chat.completion") | {"choices": choices, "usage": usage_body(usage)}
    about_prompt = prompt_logprobs(result.choices[0].prompt_logprobs)
    if about_prompt is not None:
        body["prompt_logprobs"] = about_prompt
    if frame.token_ids:
        body["prompt_token_ids"] = list(prompt_token_ids)
    return orjson.dumps(body)


def text_body(
    frame: Frame,
    choices: Sequence[Choice],
    usage: Usage,
    prompts: Sequence[Sequence[int]],
    *,
    prompt_scores: bool,
) -> bytes:
    """A whole ``text_completion`` object.

    Args:
        choices: With their final indexes.
        prompts: For each choice the token ids of its prompt.
        prompt_scores: Whether ``prompt_logprobs`` were asked for, apart from an echo.
    """
    encoded = []
    for choice, prompt in zip(choices, prompts, strict=True):
        shown = {
            "index": choice.index,
            "text": choice.text,
            "logprobs": text_logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            **_ids(frame, choice),
        }
        if prompt_scores:
            shown["prompt_logprobs"] = prompt_logprobs(choice.prompt_logprobs)
        if frame.token_ids:
            shown["prompt_token_ids"] = list(prompt)
        encoded.append(shown)
    return orjson.dumps(
        frame.head("text_completion") | {"choices": encoded, "usage": usage_body(usage)}
    )


def _message(choice: Choice) -> dict[str, Any]:
    """The assistant's message: no content beside calls unless something was said."""
    said = choice.text if choice.text or not choice.tool_calls else None
    message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": None}
    if choice.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.tool_calls
        ]
    if choice.reasoning:
        message |= {"reasoning": choice.reasoning, "reasoning_content": choice.reasoning}
    return message


def _ids(frame: Frame, choice: Choice) -> dict[str, Any]:
    return {"token_ids": choice.token_ids} if frame.token_ids else {}
