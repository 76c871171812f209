"""``/health``, ``/version`` and the OpenAPI description."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from server import __version__
from server.api.dependencies import Service
from server.api.description import describe_api
from server.api.schemas.answers import Health, Version, errors, whole

router = APIRouter(tags=["server"], responses=errors(401))


@router.get("/health", responses=whole(Health))
@router.head("/health", include_in_schema=False)  # what load balancers like to send
async def health(service: Service) -> dict[str, Any]:
    """200 as soon as the server answers; says of each model whether it is ready."""
    models = {model.entry.id: model.state.status for model in service.herd.models()}
    return {"status": "ok", "models": models}


@router.get("/version", responses=whole(Version))
async def version() -> dict[str, str]:
    """The server's version."""
    return {"version": __version__}


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """The OpenAPI description of this server."""
    return describe_api(request.app)
