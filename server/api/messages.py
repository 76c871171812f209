"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: Anthropic's Messages API.

A request becomes the same `ChatCall` as OpenAI's, so both speak to the same models in the same way.
Errors here have Anthropic's envelope: see `anthropic_errors`.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.api import message_events
from server.api.anthropic_errors import REQUEST_ID_HEADER, new_request_id
from server.api.dependencies import (
    Service,
    dropped_headers,
    ignored_headers,
    require_json,
)
from server.api.event_stream import Begun, EventStream, until_disconnect
from server.api.json_body import JsonRoute
from server.api.message_encode import MessageFrame, message_body
from server.api.schemas.answers import (
    DROPPED,
    GENERATION_ERRORS,
    IGNORED,
    whole,
    whole_or_stream,
)
from server.api.schemas.answers_messages import MessageObject, TokenCount, message_errors
from server.api.schemas.answers_streams import MESSAGE_EVENTS, streamed
from server.api.schemas.messages import CountTokensBody, MessagesBody
from server.generation.assembler import collect
from server.generation.calls import PreparedRequest
from server.generation.service import GenerationService

router = APIRouter(
    prefix="/messages",
    tags=["messages"],
    dependencies=[Depends(require_json)],
    route_class=JsonRoute,
    responses=message_errors(*GENERATION_ERRORS),
)


@router.post(
    "",
    response_model=None,
    responses=whole_or_stream(
        MessageObject, streamed(MESSAGE_EVENTS), REQUEST_ID_HEADER, IGNORED, DROPPED
    ),
)
async def create_message(request: Request, body: MessagesBody, service: Service) -> Response:
    """Answer a conversation, whole or as a stream."""
    ignored = body.ignored_fields()
    prepared = await service.prepare_chat(body.call())
    ignored += body.unused_fields(prepared.unused, reasons=prepared.reasons)
    headers = {
        REQUEST_ID_HEADER: new_request_id(),
        **ignored_headers(request, ignored),
        **dropped_headers(prepared.window.dropped_messages),
    }
    frame = MessageFrame(
        prepared.response_id,
        prepared.model.entry.id,
        prepared.prompt_tokens,
        stop_sequences=body.stop_sequences or (),
        reasons=prepared.reasons,
    )
    if body.stream:
        return await _stream(request, service, prepared, frame, headers)
    result = await until_disconnect(request, collect(service.run(prepared), 1))
    return Response(message_body(frame, result), headers=headers, media_type="application/json")


@router.post(
    "/count_tokens", response_model=None, responses=whole(TokenCount, REQUEST_ID_HEADER, IGNORED)
)
async def count_tokens(
    request: Request, response: Response, body: CountTokensBody, service: Service
) -> dict[str, int]:
    """How many tokens a conversation takes, also where it takes too many."""
    ignored = body.ignored_fields()
    rendered = await service.render_chat(body.call())
    reasons = rendered.model.entry.reasoning_parser is not None
    ignored += body.unused_fields(rendered.unused, reasons=reasons)
    response.headers.update(
        {REQUEST_ID_HEADER: new_request_id(), **ignored_headers(request, ignored)}
    )
    return {"input_tokens": len(rendered.token_ids)}


async def _stream(
    request: Request,
    service: GenerationService,
    prepared: PreparedRequest,
    frame: MessageFrame,
    headers: dict[str, str],
) -> Response:
    deltas = await Begun.begin(request, service.run(prepared))
    events = message_events.frames(
        message_events.MessageEncoder(frame),
        deltas,
        request_id=headers[REQUEST_ID_HEADER],
    )
    return EventStream(events, headers, source=deltas, keep_alive=message_events.PING)
