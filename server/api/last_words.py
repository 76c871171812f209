"""A request that is cut off because the server stops is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api import chunks, message_events
from server.api.anthropic_errors import speaks_anthropic
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
                answer = error_response(scope["path"], status, body, headers)
                await answer(scope, receive, send)
            elif not finished:  # only streams are sent in parts
                event = _error_event(scope["path"], status, body)
                await send({"type": "http.response.body", "body": event, "more_body": False})


def _error_event(path: str, status: int, body: Mapping[str, Any]) -> bytes:
    if speaks_anthropic(path):
        return message_events.error_event(status, body)
    return chunks.error_event(body)
