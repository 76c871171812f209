"""``/admin/models`` and ``/admin/memory``: what engines do, and what they are told to do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from server.api.admin.access import require_admin
from server.api.admin.desk import AtDesk, Desk
from server.api.admin.logs import follow, tail
from server.api.admin.views import engine_body, engine_list, measure, memory_body
from server.api.dependencies import require_json
from server.api.event_stream import until_disconnect
from server.api.json_body import JsonRoute
from server.api.schemas.admin import Action, ActionBody, EngineList, EngineObject, MemoryObject
from server.api.schemas.answers import BODY_ERRORS, Responses, errors, whole
from server.engines.log_files import engine_log, previous_log
from server.errors import InvalidRequest, ObjectNotFound

router = APIRouter(
    tags=["admin"],
    responses=errors(403),
    dependencies=[Depends(require_admin)],
    route_class=JsonRoute,
)
_PLAIN = "text/plain; charset=utf-8"
_LOG: Responses = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The log."}
}
_BEGUN: Responses = {202: {"model": EngineObject, "description": "It has been begun."}}


async def require_json_if_any(request: Request) -> None:
    """Refuse a body that is not declared as JSON; none is needed.

    Raises:
        UnsupportedMediaType: See `require_json`.
    """
    if await request.body():
        await require_json(request)


@router.get("/models", response_model=None, responses=whole(EngineList))
async def list_engines(desk: AtDesk) -> dict[str, Any]:
    """Every engine with its models: state, memory, requests, speed."""
    measured = await measure(desk.meter, desk.herd.engines())
    return engine_list(desk.herd, desk.keeper, measured)


@router.get("/memory", response_model=None, responses=whole(MemoryObject))
async def get_memory(desk: AtDesk) -> dict[str, Any]:
    """What engines may hold of each device, and which engine holds what."""
    return memory_body(desk.herd)


@router.get(
    "/models/{model:path}/logs",
    response_model=None,
    responses=_LOG | errors(400, 404),
    response_class=Response,
)
async def get_log(
    model: str,
    desk: AtDesk,
    lines: Annotated[int, Query(ge=0, le=100_000)] = 100,
    previous: bool = False,
    follow_: Annotated[bool, Query(alias="follow")] = False,
) -> Response:
    """The last lines of the log of a model's engine.

    With ``previous`` those of the engine before it; with ``follow`` the answer goes on with what is
    logged from now on.
    """
    name = desk.herd.resolve(model).engines.name
    folder = desk.options.log_dir
    path = None if folder is None else engine_log(folder, name)
    if path is not None and previous:
        path = previous_log(path)
    if path is None or not path.is_file():
        raise ObjectNotFound("Previous log" if previous else "Log", model)
    if follow_:
        return StreamingResponse(follow(path, lines, desk.options.stopping), media_type=_PLAIN)
    return Response(await asyncio.to_thread(tail, path, lines), media_type=_PLAIN)


@router.get(
    "/models/{model:path}", response_model=None, responses=whole(EngineObject) | errors(404)
)
async def get_engine(model: str, desk: AtDesk) -> dict[str, Any]:
    """The engine of one model, by the model's id or alias."""
    return await _engine(desk, model)


@router.post(
    "/models/{model:path}/{action}",
    response_model=None,
    responses=whole(EngineObject) | _BEGUN | errors(*BODY_ERRORS, 404, 503),
    dependencies=[Depends(require_json_if_any)],
)
async def act(
    request: Request,
    model: str,
    action: Action,
    desk: AtDesk,
    wait: bool = True,
    body: ActionBody | None = None,
) -> Response:
    """Load, unload, restart, pin a model's engine, or have it sleep or wake.

    Answers when it is done, with the engine as it is then; with ``wait=false`` at once. ``load``
    makes room as a request would; ``unload``, ``sleep`` and ``restart`` let running answers finish
    first, for as long as ``herd.drain`` says.
    """
    desk.herd.resolve(model)
    work = _work(desk, model, action, body or ActionBody())
    if wait:
        await until_disconnect(request, desk.unless_stopping(work))
    else:
        desk.operator.begin(work)
        await asyncio.sleep(0)  # let it begin, so that the state tells of it
    return JSONResponse(await _engine(desk, model), 200 if wait else 202)


def _work(desk: Desk, model: str, action: Action, body: ActionBody) -> Coroutine[Any, Any, None]:
    operator = desk.operator
    if body.level is not None and action != "sleep":
        raise InvalidRequest(f"'level' is for sleep alone, not for {action}.", param="level")
    match action:
        case "load" | "wake":
            return operator.load(model)
        case "unload":
            return operator.unload(model)
        case "restart":
            return operator.restart(model)
        case "sleep":
            return operator.sleep(model, body.level or 1)
        case "pin" | "unpin":
            return operator.pin(model, pinned=action == "pin")


async def _engine(desk: Desk, model: str) -> dict[str, Any]:
    engines = desk.herd.resolve(model).engines
    measured = await measure(desk.meter, [engines])
    return engine_body(desk.herd, desk.keeper, engines, measured)
