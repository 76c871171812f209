"""The routes of ``/v1/responses``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Final, cast

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from server.api.dependencies import (
    Owner,
    Service,
    Stored,
    dropped_headers,
    ignored_headers,
    require_json,
)
from server.api.event_stream import Begun, EventStream, until_disconnect
from server.api.json_body import JsonRoute
from server.api.responses.background import BackgroundRuns
from server.api.responses.context import gather, told_of_input
from server.api.responses.objects import new_response
from server.api.responses.output import Output
from server.api.responses.run import Run, make, replay, stream
from server.api.schemas.answers import (
    DROPPED,
    GENERATION_ERRORS,
    IGNORED,
    STORED_ERRORS,
    errors,
    whole,
    whole_or_stream,
)
from server.api.schemas.answers_stored import DeletedResponse, ItemList, ResponseObject
from server.api.schemas.answers_streams import RESPONSE_EVENTS, streamed
from server.api.schemas.responses import ResponseBody
from server.api.schemas.stored import ListQuery, list_envelope
from server.engines.base import Delta
from server.errors import InvalidRequest
from server.storage import Storage
from server.storage.responses import OPEN, Record

router = APIRouter(
    prefix="/responses",
    tags=["responses"],
    route_class=JsonRoute,
    responses=errors(*STORED_ERRORS),
)

# How often a response that another server makes is looked at.
_LOOK_S: Final = 1.0
_STREAM: Final = streamed(RESPONSE_EVENTS)


def _runs(request: Request) -> BackgroundRuns:
    return cast("BackgroundRuns", request.app.state.background)


Runs = Annotated[BackgroundRuns, Depends(_runs)]


@router.post(
    "",
    response_model=None,
    dependencies=[Depends(require_json)],
    responses=whole_or_stream(ResponseObject, _STREAM, IGNORED, DROPPED)
    | errors(*GENERATION_ERRORS),
)
async def create_response(
    request: Request,
    body: ResponseBody,
    service: Service,
    storage: Stored,
    runs: Runs,
    owner: Owner,
) -> Response:
    """Answer items, whole, as a stream of events, or in the background."""
    ignored = body.ignored_fields()
    context = await gather(body, owner, storage)
    call = body.call(context.messages(body.instructions))
    with told_of_input():
        prepared = await service.prepare_chat(call)
    unused = [name.replace("reasoning_effort", "reasoning.effort") for name in prepared.unused]
    headers = ignored_headers(request, [*ignored, *unused])
    headers |= dropped_headers(prepared.window.dropped_messages)
    response = new_response(body, call, prepared)
    output = Output(prepared.tokenizer.token_bytes, body.logprobs)
    run = Run(response, output, prepared.prompt_tokens)
    record = Record(
        owner=owner, body=response, inputs=context.inputs, conversation_id=body.conversation
    )
    if body.background:
        queued = _json(response, headers)  # as it is before it is begun
        made = await runs.start(prepared, run, record)
        return EventStream(made.follow(), headers) if body.stream else queued
    keep = _keeper(body, storage, record)
    if body.stream:
        with told_of_input():
            deltas = await Begun.begin(request, service.run(prepared))
        return EventStream(_frames(run, deltas, keep), headers, source=deltas)
    with told_of_input():
        await until_disconnect(request, make(run, service.run(prepared), keep))
    return _json(response, headers)


@router.get(
    "/{response_id}",
    response_model=None,
    responses=whole_or_stream(ResponseObject, _STREAM) | errors(400),
)
async def get_response(
    response_id: str,
    runs: Runs,
    owner: Owner,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=0, lt=2**31)] | None = None,
) -> Response:
    """A stored response, or its events."""
    after = -1 if starting_after is None else starting_after
    if stream and (one := runs.find(owner, response_id)) is not None:
        return EventStream(one.follow(after))
    response = await runs.current(owner, response_id)
    if stream:
        return EventStream(_replayed(response, runs, owner, after))
    return _json(response)


@router.delete(
    "/{response_id}", response_model=None, responses=whole(DeletedResponse) | errors(413)
)
async def delete_response(
    response_id: str, storage: Stored, runs: Runs, owner: Owner
) -> dict[str, Any]:
    """Forget a response; one that is being made is ended."""
    if runs.find(owner, response_id) is not None:
        await runs.cancel(owner, response_id)
    await storage.responses.delete(owner, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post(
    "/{response_id}/cancel",
    response_model=None,
    responses=whole(ResponseObject) | errors(400, 413),
)
async def cancel_response(response_id: str, storage: Stored, runs: Runs, owner: Owner) -> Response:
    """End a response that is made in the background."""
    response = await runs.current(owner, response_id)
    if not response["background"]:
        raise InvalidRequest("Only responses with 'background': true can be cancelled.")
    if response["status"] in OPEN:
        await runs.cancel(owner, response_id)
        response = await storage.responses.get(owner, response_id)
    elif response["status"] != "cancelled":
        raise InvalidRequest(f"Cannot cancel a response that is {response['status']}.")
    return _json(response)


@router.get(
    "/{response_id}/input_items", response_model=None, responses=whole(ItemList) | errors(400)
)
async def list_input_items(
    response_id: str, query: Annotated[ListQuery, Query()], storage: Stored, owner: Owner
) -> dict[str, Any]:
    """What went into a response itself, without what came before it."""
    return list_envelope(await storage.responses.inputs(owner, response_id, query.page_query()))


def _keeper(
    body: ResponseBody, storage: Storage, record: Record
) -> Callable[[], Awaitable[object]]:
    """What keeps a response that is made while its client waits."""

    async def keep() -> None:
        if body.stored:
            await storage.responses.add(record)
        elif body.conversation and record.body["status"] != "failed":
            items = [*record.inputs, *record.body["output"]]
            await storage.conversations.append(record.owner, body.conversation, items)

    return keep


async def _frames(
    run: Run,
    deltas: Begun[Delta],
    keep: Callable[[], Awaitable[object]],
) -> AsyncGenerator[bytes, None]:
    opening = run.opening("response.created", "response.in_progress")
    async for frames in stream(run, deltas, keep):
        yield b"".join([*opening, *frames])
        opening = []


async def _replayed(
    response: dict[str, Any], runs: BackgroundRuns, owner: str, after: int
) -> AsyncGenerator[bytes, None]:
    """The events of a response that has ended, or will at another server."""
    while response["status"] in OPEN:
        await asyncio.sleep(_LOOK_S)
        response = await runs.current(owner, response["id"])
    frames = replay(response)
    # The last holds the whole response, for those who heard more events while it was made.
    yield b"".join(frames[after + 1 :] or frames[-1:])


def _json(response: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(response), headers=headers, media_type="application/json")
