"""The registry of a running server: read again, added to, taken away from."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response

from server.api.admin.access import require_admin
from server.api.admin.desk import AtDesk
from server.api.admin.entries import served
from server.api.admin.routes import require_json_if_any
from server.api.admin.views import engine_body, set_aside
from server.api.dependencies import require_json
from server.api.json_body import JsonRoute
from server.api.schemas.admin import ChangesObject, DeletedModel, EngineObject
from server.api.schemas.answers import BODY_ERRORS, Responses, errors, whole

router = APIRouter(
    tags=["admin"],
    responses=errors(403),
    dependencies=[Depends(require_admin)],
    route_class=JsonRoute,
)
_ADDED: Responses = {201: {"model": EngineObject, "description": "It is served."}}


@router.post(
    "/reload",
    response_model=None,
    responses=whole(ChangesObject) | errors(*BODY_ERRORS),
    dependencies=[Depends(require_json_if_any)],
)
async def reload(desk: AtDesk) -> dict[str, Any]:
    """Read the registry file again.

    A file with mistakes is refused whole: ``error.problems`` names every one of them, and all that
    was served still is.
    """
    changes = await desk.keeper.reload()
    return {
        "object": "registry.changes",
        "added": list(changes.added),
        "removed": list(changes.removed),
        "changed": list(changes.changed),
        "shadowed": set_aside(desk.keeper),
    }


@router.post(
    "/models",
    response_model=None,
    responses=_ADDED | errors(*BODY_ERRORS, 503),
    status_code=201,
    dependencies=[Depends(require_json)],
)
async def add_model(desk: AtDesk, entry: dict[str, Any], replace: bool = False) -> Response:
    """Serve another model or adapter from now on, also after a restart.

    The body is what stands for a model in the registry file. ``replace`` lets it take the place of
    an added one of the same id.
    """
    model = await served(desk, entry, replace=replace)
    body = engine_body(desk.herd, desk.keeper, model.engines, {})
    return JSONResponse(body, 201)


@router.delete(
    "/models/{model:path}",
    response_model=None,
    responses=whole(DeletedModel) | errors(400, 404, 503),
)
async def delete_model(desk: AtDesk, model: str) -> dict[str, Any]:
    """Serve an added model no longer; its requests under way are finished.

    Models of the registry file are taken out of the file.
    """
    await desk.keeper.remove(model)
    return {"id": model, "object": "model", "deleted": True}
