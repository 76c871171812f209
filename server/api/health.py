"""``/health``, ``/version`` and the OpenAPI description."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from server import __version__
from server.api.dependencies import Service
from server.api.description import describe_api
from server.api.schemas.answers import Health, Version, errors, whole

router = APIRouter(tags=["server"])


@router.get("/health", response_model=None, responses=whole(Health))
@router.head("/health", include_in_schema=False)  # what load balancers like to send
async def health(service: Service) -> dict[str, Any]:
    """200 as soon as the server answers; says of each model whether it is ready."""
    models = {model.entry.id: model.slot.state.status for model in service.herd.models()}
    return {"status": "ok", "models": models}


@router.get("/version", response_model=None, responses=whole(Version) | errors())
async def version() -> dict[str, str]:
    """The server's version."""
    return {"version": __version__}


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The OpenAPI description of this server."""
    return Response(orjson.dumps(describe_api(request.app)), media_type="application/json")
