"""The response object as it is when the response is begun."""

from __future__ import annotations

import time
from typing import Any

from server.api.responses.items import new_id
from server.api.schemas.response_tools import flat_tools
from server.api.schemas.responses import ResponseBody
from server.generation.calls import ChatCall, PreparedRequest


def new_response(body: ResponseBody, call: ChatCall, prepared: PreparedRequest) -> dict[str, Any]:
    """OpenAI's object with every field; what the caller left open shows what is used."""
    sampling = prepared.request.sampling
    overflow = call.overflow or prepared.model.entry.context.overflow
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if body.background else "in_progress",
        "background": bool(body.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "model": prepared.model.entry.id,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "conversation": {"id": body.conversation} if body.conversation else None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": call.reasoning_effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.stored,
        "temperature": sampling.temperature,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}},
        "tool_choice": body.tool_choice if body.tool_choice is not None else "auto",
        "tools": flat_tools(call.tools),
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "auto" if overflow == "drop_oldest" else "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata,
    }
