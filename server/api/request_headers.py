"""Headers that OpenAI's API puts on every response: a request's id and how long it took."""

from __future__ import annotations

import re
import time
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ID: Final = "x-request-id"
# Milliseconds until the status line was ready.
_DURATION: Final = "openai-processing-ms"
_FIT_FOR_A_HEADER: Final = re.compile(r"[\x21-\x7e]{1,128}")


class RequestHeaders:
    """ASGI middleware: ``x-request-id``, the caller's own where it brings one.

    Around the whole application, not inside: Starlette answers what nobody expected outside of
    all middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        given = Headers(scope=scope).get(_ID, "")
        request_id = given if _FIT_FOR_A_HEADER.fullmatch(given) else f"req_{uuid.uuid4().hex}"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[_ID] = request_id
                headers[_DURATION] = str(round((time.perf_counter() - began) * 1000))
            await send(message)

        await self.app(scope, receive, with_headers)
