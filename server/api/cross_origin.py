"""Which browsers' pages may ask what: any page the API, none but the server's own the rest."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.admin.access import is_admin_path

_DAY_S = 86_400


class CrossOrigin:
    """ASGI middleware outside of everything, so that errors of every kind carry the headers too.

    The API may be used by pages of any origin: what guards it are keys. What operates the server
    has no CORS headers at all, whoever asks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._open = CORSMiddleware(
            app,
            allow_origins=["*"],
            allow_methods=["*"],
            # Reflects whatever a preflight asks for: the SDKs send x-stainless-* headers.
            allow_headers=["*"],
            expose_headers=["*"],
            max_age=_DAY_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and is_admin_path(scope["path"])
        await (self.app if closed else self._open)(scope, receive, send)
