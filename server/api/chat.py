"""``POST /v1/chat/completions`` and ``/v1/chat/completions/render``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.api import chunks, encode
from server.api.dependencies import (
    Service,
    dropped_headers,
    ignored_headers,
    require_json,
)
from server.api.event_stream import Begun, EventStream, until_disconnect
from server.api.json_body import JsonRoute
from server.api.schemas.answers import (
    DROPPED,
    GENERATION_ERRORS,
    IGNORED,
    errors,
    whole,
    whole_or_stream,
)
from server.api.schemas.answers_generation import ChatCompletionObject, RenderedPrompt
from server.api.schemas.answers_streams import CHAT_EVENTS, streamed
from server.api.schemas.chat import ChatBody
from server.generation.assembler import Usage, collect
from server.generation.calls import PreparedRequest
from server.generation.service import GenerationService

router = APIRouter(
    prefix="/chat/completions",
    tags=["chat"],
    dependencies=[Depends(require_json)],
    route_class=JsonRoute,
    responses=errors(*GENERATION_ERRORS),
)


@router.post(
    "",
    response_model=None,
    responses=whole_or_stream(
        ChatCompletionObject, streamed(CHAT_EVENTS, done=True), IGNORED, DROPPED
    ),
)
async def create_chat_completion(request: Request, body: ChatBody, service: Service) -> Response:
    """Answer a conversation, whole or as a stream."""
    ignored = body.ignored_fields()
    prepared = await service.prepare_chat(body.call())
    headers = ignored_headers(request, [*ignored, *prepared.unused]) | dropped_headers(
        prepared.window.dropped_messages
    )
    frame = encode.Frame(
        "chat",
        prepared.response_id,
        prepared.model.entry.id,
        prepared.tokenizer.token_bytes,
        top_logprobs=prepared.request.sampling.logprobs,
        token_ids=bool(body.return_token_ids),
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
        result.reasoning_tokens if prepared.reasons else None,
    )
    content = encode.chat_body(frame, result, usage, prepared.request.prompt_token_ids)
    return Response(content, headers=headers, media_type="application/json")


@router.post("/render", response_model=None, responses=whole(RenderedPrompt, IGNORED, DROPPED))
async def render_chat_completion(
    request: Request, response: Response, body: ChatBody, service: Service
) -> dict[str, Any]:
    """The exact prompt of a conversation, without generating anything."""
    ignored = body.ignored_fields()
    prepared = await service.prepare_chat(body.call())
    response.headers.update(ignored_headers(request, [*ignored, *prepared.unused]))
    response.headers.update(dropped_headers(prepared.window.dropped_messages))
    return prepared.as_dict()


async def _stream(
    request: Request,
    body: ChatBody,
    service: GenerationService,
    prepared: PreparedRequest,
    frame: encode.Frame,
    headers: dict[str, str],
) -> Response:
    deltas = await Begun.begin(request, service.run(prepared))
    choices = prepared.request.sampling.n
    options = body.stream_options
    include_usage = options is not None and bool(options.include_usage)
    encoder = chunks.ChunkEncoder(
        frame,
        prompts=[prepared.request.prompt_token_ids],
        include_usage=include_usage,
        continuous_usage=options is not None and bool(options.continuous_usage_stats),
        dropped_messages=prepared.window.dropped_messages,
        reasons=prepared.reasons,
        choices_per_prompt=choices,
    )
    stream = chunks.frames(
        encoder, deltas, choices=choices, roles=True, include_usage=include_usage
    )
    return EventStream(stream, headers, source=deltas)
