"""Where the parts are put together."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from server import __version__
from server.api import (
    chat,
    completions,
    conversations,
    embeddings,
    error_handlers,
    health,
    messages,
    models,
    page,
    tokenize,
)
from server.api.admin import adapters, events, registry, routes
from server.api.admin.access import is_admin_path
from server.api.admin.desk import Desk
from server.api.admin.options import AdminOptions
from server.api.auth import KeyRing, require_key
from server.api.body_limit import BodyLimit
from server.api.cross_origin import CrossOrigin
from server.api.event_stream import ClientLeft
from server.api.last_words import LastWords
from server.api.request_headers import RequestHeaders
from server.api.responses import routes as responses
from server.api.responses.background import BackgroundRuns
from server.api.ui import routes as ui
from server.api.ui.visitors import Visitors
from server.generation.herd import Herd
from server.generation.service import GenerationService
from server.storage import Storage
from server.web import STATIC, Site

# Nginx's status for "client closed request"; nobody is left to read it, the access log is.
_CLIENT_CLOSED = 499


def create_app(  # noqa: PLR0913 - one a setting
    herd: Herd,
    *,
    keys: Iterable[str] = (),
    load_wait_seconds: float = 600.0,
    max_running: int = 512,
    max_body_bytes: int = 32 << 20,
    strict: bool = False,
    database_url: str | None = None,
    admin: AdminOptions | None = None,
    page_folder: Path = STATIC,
) -> ASGIApp:
    """The server as an ASGI application; its lifespan loads and stops the engines.

    Args:
        herd: The models to serve.
        keys: Accepted API keys; none lets everybody in.
        load_wait_seconds: Longest a request waits for its model to load.
        max_running: Requests under way at once.
        max_body_bytes: Largest request body.
        strict: Refuse requests with fields that nobody knows, unless they say ``?strict=false``.
        database_url: Where responses, conversations, chats and added models are kept; None keeps
            none.
        admin: Who may operate the server, and what it tells them; by default nobody may.
        page_folder: The built chat page; without one there, there is none.
    """
    app = FastAPI(
        title="Corral",
        version=__version__,
        lifespan=_lifespan,
        # Served by a route of ours instead, so that the same dependency guards them.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(LastWords),
            Middleware(BodyLimit, limit=max_body_bytes),
        ],
    )
    admin = admin or AdminOptions()
    accepted = [*keys]
    # Admin keys open the API too; without API keys it is open to everybody.
    app.state.keys = KeyRing([*accepted, *admin.keys] if accepted else ())
    app.state.herd = herd
    app.state.strict = strict
    app.state.service = GenerationService(
        herd, load_wait_seconds=load_wait_seconds, max_running=max_running
    )
    app.state.storage = Storage(database_url)
    app.state.desk = Desk(herd, app.state.storage.added_entries, admin, app.state.keys)
    app.state.visitors = Visitors(app.state.storage.secrets)
    app.state.background = BackgroundRuns(app.state.service, app.state.storage, most=max_running)
    app.state.started = int(time.time())
    error_handlers.install(app)
    app.add_exception_handler(ClientLeft, _client_left)
    app.router.routes.extend(_routes())
    page.install(app, Site.read(page_folder))
    return CrossOrigin(RequestHeaders(app), _is_closed)


def _is_closed(path: str) -> bool:
    return is_admin_path(path) or ui.is_ui(path) or page.is_page(path)


@functools.cache
def _routes() -> tuple[BaseRoute, ...]:
    """Every route behind the same key check.

    They hold nothing of one application and take a sixth of a second to put together: a process
    with several applications, as that of the tests, does so once.
    """
    versioned = APIRouter()
    for module in (
        chat,
        completions,
        embeddings,
        messages,
        responses,
        conversations,
        models,
        tokenize,
        adapters,
    ):
        versioned.include_router(module.router)
    every = APIRouter(
        dependencies=[Depends(require_key)],
        # What clients that are made of the description call their methods.
        generate_unique_id_function=lambda route: route.name,
    )
    every.include_router(versioned, prefix="/v1")
    # Some clients take a base URL without /v1.
    every.include_router(versioned, include_in_schema=False)
    every.include_router(health.router)
    # In this order: what is more special comes first.
    for part in (events, registry, routes):
        every.include_router(part.router, prefix="/admin")
    for part in ui.ROUTERS:
        every.include_router(part, prefix=ui.PREFIX)
    return tuple(every.routes)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    herd: Herd = app.state.herd
    storage: Storage = app.state.storage
    herd.load_at_startup()
    desk: Desk = app.state.desk
    await desk.open()
    try:
        yield
    finally:
        await desk.close()
        await app.state.background.close()
        await herd.close()
        await storage.database.close()


async def _client_left(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED)
