"""Bodies have a size limit, whether they declare their size or not."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.auth import Unauthorized, require_key
from server.api.envelope import envelope, error_response
from server.api.error_handlers import describe

# Longer declarations are no length that any body has (and int() refuses very long ones).
_LONGEST_DECLARATION = 18


class BodyLimit:
    """ASGI middleware: reads the body, and answers 413 as soon as it is known to be too long.

    Every endpoint needs its whole body before it can begin, so reading it here costs nothing.
    Nothing is read of a caller without a key: otherwise anybody could fill the memory.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        try:
            await require_key(Request(scope))
        except Unauthorized as error:
            answer = error_response(scope["path"], *describe(error))
            await answer(scope, receive, send)
            return
        if self._declared(scope) > self._limit:
            await self._refuse(scope, receive, send)
            return
        await self._read_and_go_on(scope, receive, send)

    async def _read_and_go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                await self._refuse(scope, receive, send)
                return
        pending: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    @staticmethod
    def _declared(scope: Scope) -> int:
        """The body's size as the caller states it; 0 when it does not."""
        digits = dict(scope["headers"]).get(b"content-length", b"0")
        return int(digits[:_LONGEST_DECLARATION]) if digits.isdigit() else 0

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The connection stays open: the server discards what is still to come, while closing it
        # now would reset it, and the caller might never see why.
        message = (
            f"The request body is larger than {self._limit} bytes, this server's limit. "
            "Send a shorter conversation or prompt."
        )
        answer = error_response(scope["path"], 413, envelope(message))
        await answer(scope, receive, send)
