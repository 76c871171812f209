"""``POST /v1/completions``: one or several prompts, text or token ids, continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.api import encode
from server.api.dependencies import Service, first_delta, ignored_headers, require_json
from server.api.event_stream import EventStream, until_disconnect
from server.api.schemas.completions import CompletionBody
from server.engines.base import Delta
from server.generation.assembler import Choice, Result, Usage, collect
from server.generation.service import GenerationService, PreparedRequest

router = APIRouter(
    prefix="/completions", tags=["completions"], dependencies=[Depends(require_json)]
)


@router.post("", response_model=None)
async def create_completion(request: Request, body: CompletionBody, service: Service) -> Response:
    """Continue prompts, whole or as a stream; choice ``i * n + j`` is the j-th of prompt i."""
    headers = ignored_headers(body)
    prepared = [await service.prepare_completion(call) for call in body.calls()]
    frame = encode.Frame("text", prepared[0].request.request_id, prepared[0].model.entry.id)
    if body.stream:
        return await _stream(request, body, service, prepared, frame, headers)
    results = await until_disconnect(request, _collect_all(service, prepared))
    choices, usage = _joined(prepared, results)
    content = encode.text_body(frame, choices, usage)
    return Response(content, headers=headers, media_type="application/json")


async def _collect_all(
    service: GenerationService, prepared: Sequence[PreparedRequest]
) -> list[Result]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(collect(service.run(one), one.request.sampling.n)) for one in prepared
        ]
    return [task.result() for task in tasks]


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
        0,
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
    deltas = _merged(service, prepared)
    first = await first_delta(request, deltas)
    options = body.stream_options
    include_usage = options is not None and options.include_usage
    encoder = encode.ChunkEncoder(
        frame,
        prompt_tokens=sum(one.prompt_tokens for one in prepared),
        include_usage=include_usage,
        continuous_usage=options is not None and options.continuous_usage_stats,
    )
    stream = encode.frames(
        encoder, first, deltas, choices=0, roles=False, include_usage=include_usage
    )
    return EventStream(stream, headers)


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
    queue: asyncio.Queue[Delta | None] = asyncio.Queue(maxsize=1)

    async def pump(position: int, one: PreparedRequest) -> None:
        base = position * one.request.sampling.n
        async with aclosing(service.run(one)) as deltas:
            async for delta in deltas:
                delta.index += base
                await queue.put(delta)
        await queue.put(None)

    tasks = [asyncio.create_task(pump(*item)) for item in enumerate(prepared)]
    try:
        running = len(tasks)
        while running:
            get = asyncio.ensure_future(queue.get())
            await asyncio.wait([get, *tasks], return_when=asyncio.FIRST_COMPLETED)
            failed = next((t for t in tasks if t.done() and t.exception() is not None), None)
            if failed is not None:
                get.cancel()
                failed.result()
            delta = await get
            if delta is None:
                running -= 1
            else:
                yield delta
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
