"""``POST /v1/chat/completions`` and ``/v1/chat/completions/render``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.api import encode
from server.api.dependencies import (
    DROPPED_HEADER,
    Service,
    first_delta,
    ignored_headers,
    require_json,
)
from server.api.event_stream import EventStream, until_disconnect
from server.api.json_body import JsonRoute
from server.api.schemas.chat import ChatBody
from server.generation.assembler import Usage, collect
from server.generation.calls import PreparedRequest
from server.generation.service import GenerationService

router = APIRouter(
    prefix="/chat/completions",
    tags=["chat"],
    dependencies=[Depends(require_json)],
    route_class=JsonRoute,
)


@router.post("", response_model=None)
async def create_chat_completion(request: Request, body: ChatBody, service: Service) -> Response:
    """Answer a conversation, whole or as a stream."""
    headers = ignored_headers(body)
    prepared = await service.prepare_chat(body.call())
    headers |= dropped_headers(prepared)
    frame = encode.Frame(
        "chat",
        prepared.request.request_id,
        prepared.model.entry.id,
        prepared.tokenizer.token_bytes,
        top_logprobs=prepared.request.sampling.logprobs,
    )
    if body.stream:
        return await _stream(request, body, service, prepared, frame, headers)
    count = prepared.request.sampling.n
    result = await until_disconnect(request, collect(service.run(prepared), count))
    usage = Usage(
        prepared.prompt_tokens,
        result.completion_tokens,
        result.cached_tokens,
        prepared.window.dropped_messages,
    )
    content = encode.chat_body(frame, result, usage)
    return Response(content, headers=headers, media_type="application/json")


@router.post("/render")
async def render_chat_completion(
    response: Response, body: ChatBody, service: Service
) -> dict[str, Any]:
    """The exact prompt of a conversation, without generating anything."""
    response.headers.update(ignored_headers(body))
    prepared = await service.prepare_chat(body.call())
    response.headers.update(dropped_headers(prepared))
    return prepared.as_dict()


def dropped_headers(prepared: PreparedRequest) -> dict[str, str]:
    """A header that says how many messages did not fit; absent when all did."""
    dropped = prepared.window.dropped_messages
    return {DROPPED_HEADER: str(dropped)} if dropped else {}


async def _stream(
    request: Request,
    body: ChatBody,
    service: GenerationService,
    prepared: PreparedRequest,
    frame: encode.Frame,
    headers: dict[str, str],
) -> Response:
    deltas = service.run(prepared)
    first = await first_delta(request, deltas)
    choices = prepared.request.sampling.n
    options = body.stream_options
    include_usage = options is not None and bool(options.include_usage)
    encoder = encode.ChunkEncoder(
        frame,
        prompt_tokens=prepared.prompt_tokens,
        include_usage=include_usage,
        continuous_usage=options is not None and bool(options.continuous_usage_stats),
        dropped_messages=prepared.window.dropped_messages,
        choices_per_prompt=choices,
    )
    stream = encode.frames(
        encoder, first, deltas, choices=choices, roles=True, include_usage=include_usage
    )
    return EventStream(stream, headers, source=deltas)
