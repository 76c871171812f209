"""Which browsers' pages may ask what: any page the API, none but the server's own the rest."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.auth import Forbidden

_DAY_S = 86_400
FOREIGN = "foreign_origin"


class CrossOrigin:
    """ASGI middleware outside of everything, so that errors of every kind carry the headers too.

    The API may be used by pages of any origin: what guards it are keys. What is closed has no CORS
    headers at all, whoever asks.

    Args:
        app: What is asked.
        closed: Whether a path is closed to pages of other origins.
    """

    def __init__(self, app: ASGIApp, closed: Callable[[str], bool]) -> None:
        self.app = app
        self._closed = closed
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
        closed = scope["type"] == "http" and self._closed(scope["path"])
        await (self.app if closed else self._open)(scope, receive, send)


def is_foreign(headers: Headers) -> bool:
    """Whether a browser's page of another origin asks; programs send none of these headers.

    Pages can forge neither. Of the origin, the scheme is left out of account: a proxy that speaks
    TLS speaks HTTP with us.
    """
    own = {
        f"{way}://{host.lower()}" for host in headers.getlist("host") for way in ("http", "https")
    }
    if any(origin.lower() not in own for origin in headers.getlist("origin")):
        return True
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


async def refuse_foreign(request: Request) -> None:
    """The dependency of routes that change something for whoever a cookie stands for.

    Raises:
        Forbidden: A page of another origin asks for a change.
    """
    if request.method not in ("GET", "HEAD") and is_foreign(request.headers):
        raise Forbidden("Web pages of other origins may not change anything here.", code=FOREIGN)
