"""``POST /v1/completions``: one or several prompts, text or token ids, continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.api import chunks, encode
from server.api.dependencies import Service, ignored_headers, require_json
from server.api.event_stream import Begun, EventStream, until_disconnect
from server.api.json_body import JsonRoute
from server.api.schemas.answers import GENERATION_ERRORS, IGNORED, errors, whole_or_stream
from server.api.schemas.answers_generation import TextCompletionObject
from server.api.schemas.answers_streams import TEXT_EVENTS, streamed
from server.api.schemas.completions import CompletionBody
from server.api.together import AT_ONCE, gather
from server.engines.base import Delta
from server.generation.assembler import Choice, Result, Usage, collect
from server.generation.calls import PreparedRequest
from server.generation.service import GenerationService

router = APIRouter(
    prefix="/completions",
    tags=["completions"],
    dependencies=[Depends(require_json)],
    route_class=JsonRoute,
    responses=errors(*GENERATION_ERRORS),
)


@router.post(
    "",
    response_model=None,
    responses=whole_or_stream(TextCompletionObject, streamed(TEXT_EVENTS, done=True), IGNORED),
)
async def create_completion(request: Request, body: CompletionBody, service: Service) -> Response:
    """Continue prompts, whole or as a stream; choice ``i * n + j`` is the j-th of prompt i."""
    headers = ignored_headers(request, body.ignored_fields())
    prepared = []
    for call in body.calls():
        prepared.append(await service.prepare_completion(call))
        # Tokenising hundreds of prompts in one go would stall every stream.
        await asyncio.sleep(0)
    one = prepared[0]
    frame = encode.Frame(
        "text",
        one.response_id,
        one.model.entry.id,
        one.tokenizer.token_bytes,
        token_ids=bool(body.return_token_ids),
    )
    if body.stream:
        return await _stream(request, body, service, prepared, frame, headers)
    results = await until_disconnect(request, _collect_all(service, prepared))
    choices, usage = _joined(prepared, results)
    content = encode.text_body(
        frame,
        choices,
        usage,
        [one.request.prompt_token_ids for one in prepared for _ in range(one.request.sampling.n)],
        prompt_scores=body.prompt_logprobs is not None,
    )
    return Response(content, headers=headers, media_type="application/json")


async def _collect_all(
    service: GenerationService, prepared: Sequence[PreparedRequest]
) -> list[Result]:
    return await gather(lambda one: collect(service.run(one), one.request.sampling.n), prepared)


def _joined(
    prepared: Sequence[PreparedRequest], results: Sequence[Result]
) -> tuple[list[Choice], Usage]:
    choices: list[Choice] = []
    for result in results:
        for choice in result.choices:
            choices.append(replace(choice, index=len(choices)))
    usage = Usage(
        sum(one.prompt_tokens for one in prepared),
        sum(result.completion_tokens for result in results),
        sum(result.cached_tokens for result in results),
    )
    return choices, usage


async def _stream(
    request: Request,
    body: CompletionBody,
    service: GenerationService,
    prepared: Sequence[PreparedRequest],
    frame: encode.Frame,
    headers: dict[str, str],
) -> Response:
    deltas = await Begun.begin(request, _merged(service, prepared))
    options = body.stream_options
    include_usage = options is not None and bool(options.include_usage)
    encoder = chunks.ChunkEncoder(
        frame,
        prompts=[one.request.prompt_token_ids for one in prepared],
        include_usage=include_usage,
        continuous_usage=options is not None and bool(options.continuous_usage_stats),
        choices_per_prompt=prepared[0].request.sampling.n,
    )
    stream = chunks.frames(encoder, deltas, choices=0, roles=False, include_usage=include_usage)
    return EventStream(stream, headers, source=deltas)


def _merged(
    service: GenerationService, prepared: Sequence[PreparedRequest]
) -> AsyncGenerator[Delta, None]:
    """The deltas of all prompts as they come, with indexes over all of them."""
    if len(prepared) == 1:
        return service.run(prepared[0])
    return _interleaved(service, prepared)


async def _interleaved(
    service: GenerationService, prepared: Sequence[PreparedRequest]
) -> AsyncGenerator[Delta, None]:
    # One slot: a slow client slows the engines' consumers, which then merge tokens.
    queue: asyncio.Queue[Delta | Exception | None] = asyncio.Queue(maxsize=1)
    gate = asyncio.Semaphore(AT_ONCE)

    async def pump(position: int, one: PreparedRequest) -> None:
        base = position * one.request.sampling.n
        try:
            async with gate, aclosing(service.run(one)) as deltas:
                async for delta in deltas:
                    delta.index += base
                    await queue.put(delta)
        except Exception as error:  # noqa: BLE001  # raised below, for the reader of the stream
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(*item)) for item in enumerate(prepared)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
