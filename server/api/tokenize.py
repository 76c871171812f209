"""``POST /tokenize`` and ``/detokenize``: what a model sees of a text or a conversation.

They need a model's tokenizer and not its engine, so they answer while it loads.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from server.api.dependencies import Service, ignored_headers, require_json
from server.api.json_body import JsonRoute
from server.api.schemas.answers import BODY_ERRORS, IGNORED, errors, whole
from server.api.schemas.answers_generation import Detokenized, TokenList
from server.api.schemas.tokenize import DetokenizeBody, TokenizeBody

router = APIRouter(
    tags=["tokens"],
    dependencies=[Depends(require_json)],
    route_class=JsonRoute,
    responses=errors(*BODY_ERRORS, 404, 503),
)


@router.post("/tokenize", response_model=None, responses=whole(TokenList, IGNORED))
async def tokenize(
    request: Request, response: Response, body: TokenizeBody, service: Service
) -> dict[str, Any]:
    """Token ids of a text, or of the prompt that a conversation becomes.

    They are those that the model would get. Text that spells a control token is text, here as in
    every other request: only a chat template writes control tokens.
    """
    ignored = body.ignored_fields()
    call = body.call()
    if call is None:
        bos = body.add_special_tokens is not False
        rendered = await service.encode(body.model, body.prompt or "", bos=bos)
    else:
        rendered = await service.render_chat(call)
    response.headers.update(ignored_headers(request, ignored))
    ids = rendered.token_ids
    return {
        "count": len(ids),
        "max_model_len": rendered.model.context_length,
        "tokens": ids,
        "token_strs": rendered.tokenizer.pieces(ids) if body.return_token_strs else None,
    }


@router.post("/detokenize", response_model=None, responses=whole(Detokenized, IGNORED))
async def detokenize(
    request: Request, response: Response, body: DetokenizeBody, service: Service
) -> dict[str, str]:
    """The text of token ids, with control tokens spelled out."""
    prompt = await service.decode(body.model, body.tokens)
    response.headers.update(ignored_headers(request, body.ignored_fields()))
    return {"prompt": prompt}
