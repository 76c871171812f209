"""``POST /v1/embeddings``: one or several texts, turned into vectors."""

from __future__ import annotations

import asyncio
import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.api.dependencies import Service, ignored_headers, require_json
from server.api.event_stream import until_disconnect
from server.api.json_body import JsonRoute
from server.api.schemas.answers import GENERATION_ERRORS, IGNORED, errors, whole
from server.api.schemas.answers_generation import EmbeddingList
from server.api.schemas.embeddings import EmbeddingBody
from server.api.together import gather
from server.engines.base import Vector
from server.generation.calls import PreparedEmbedding

router = APIRouter(
    prefix="/embeddings",
    tags=["embeddings"],
    dependencies=[Depends(require_json)],
    route_class=JsonRoute,
    responses=errors(*GENERATION_ERRORS),
)


@router.post("", response_model=None, responses=whole(EmbeddingList, IGNORED))
async def create_embeddings(request: Request, body: EmbeddingBody, service: Service) -> Response:
    """One vector an input, in their order."""
    headers = ignored_headers(request, body.ignored_fields())
    prepared = []
    for call in body.calls():
        prepared.append(await service.prepare_embedding(call))
        # Tokenising hundreds of texts in one go would stall every stream.
        await asyncio.sleep(0)
    vectors = await until_disconnect(request, gather(service.embed, prepared))
    content = await _encoded(prepared, vectors, body.encoding_format or "float")
    return Response(content, headers=headers, media_type="application/json")


async def _encoded(
    prepared: Sequence[PreparedEmbedding],
    vectors: Sequence[Vector],
    encoding: Literal["float", "base64"],
) -> bytes:
    """The response as JSON, written vector by vector so that streams go on meanwhile."""
    data = []
    for index, vector in enumerate(vectors):
        shown: Any = _base64(vector) if encoding == "base64" else vector.tolist()
        item = {"object": "embedding", "index": index, "embedding": shown}
        data.append(orjson.Fragment(orjson.dumps(item)))
        await asyncio.sleep(0)
    tokens = sum(len(one.request.prompt_token_ids) for one in prepared)
    return orjson.dumps(
        {
            "object": "list",
            "data": data,
            "model": prepared[0].model.entry.id,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _base64(vector: Vector) -> str:
    """32-bit floats, little-endian, as OpenAI's SDKs expect them."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()
