"""``GET /v1/models`` and ``GET /v1/models/{model}``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from server.api.dependencies import Service
from server.api.schemas.answers import ModelList, ModelObject, errors, whole
from server.generation.hosted import HostedModel

router = APIRouter(prefix="/models", tags=["models"], responses=errors())


@router.get("", response_model=None, responses=whole(ModelList))
@router.get("/", include_in_schema=False)  # else the model with the empty name
async def list_models(request: Request, service: Service) -> dict[str, Any]:
    """Every model of the registry, loaded or not."""
    created: int = request.app.state.started
    return {
        "object": "list",
        "data": [model_body(model, created) for model in service.herd.models()],
    }


@router.get("/{model:path}", response_model=None, responses=whole(ModelObject) | errors(404))
async def get_model(request: Request, model: str, service: Service) -> dict[str, Any]:
    """One model, by id or alias."""
    return model_body(service.herd.resolve(model), request.app.state.started)


def model_body(model: HostedModel, created: int) -> dict[str, Any]:
    """OpenAI's model object, with what this server knows besides."""
    entry, state = model.entry, model.state
    return {
        "id": entry.id,
        "object": "model",
        "created": created,
        "owned_by": "corral",
        "root": (entry.adapter or entry.source).label,
        "parent": entry.base,
        "base": entry.base,
        "description": entry.description,
        "aliases": entry.aliases,
        "kind": entry.kind,
        "template": entry.template,
        "defaults": entry.sampling.model_dump(exclude_none=True),
        "max_model_len": model.context_length or entry.context.length,
        "size": model.weight_bytes or None,
        "status": state.status,
        "status_detail": state.detail or None,
    }
