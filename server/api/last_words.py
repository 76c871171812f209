"""A request that is cut off because the server stops is told so."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.encode import error_event
from server.api.envelope import error_response
from server.api.error_handlers import describe
from server.errors import ServerStopping


class LastWords:
    """ASGI middleware: ends what the HTTP server cancels when its time to finish answers is over.

    An answer that has not begun becomes a 503, a stream gets one typed error event; otherwise the
    client would see a connection that breaks for no reason.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = finished = False

        async def noting(message: Message) -> None:
            nonlocal started, finished
            started = True
            finished = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            # The end of this request is all that was asked for, so it goes no further.
            status, body, headers = describe(ServerStopping())
            if not started:
                await error_response(status, body, headers)(scope, receive, send)
            elif not finished:  # only streams are sent in parts
                event = error_event(body)
                await send({"type": "http.response.body", "body": event, "more_body": False})
