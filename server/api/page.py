"""The chat page: ``/``, its own routes, and its files. They need no key; the page asks for one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from server.web import Site, Variant
from server.web.site import ASSETS, INDEX

# What the page shows under addresses of its own. It does so itself: all of them are one file.
_ROUTES: Final = ("/", "/c/{id}", "/compare", "/herd", "/settings")
_OWN: Final = re.compile("|".join([*_ROUTES, f"/{ASSETS}.*"]).replace("{id}", "[^/]+"))
# Nothing but what comes from this server, and no frame around it. Pictures in answers are shown if
# they are in the text itself, for a picture elsewhere would tell its server what was said.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_GUARDS: Final[Mapping[str, str]] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
# Kept, and asked for again each time whether it is still the same.
_ASK_AGAIN: Final = "no-cache"
_NOT_BUILT: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Corral</title>
<h1>Corral is running</h1>
<p>Its chat page was not built: <code>make serve</code> in a checkout builds it, or
<code>python3 -m scripts.build_web</code>, which says what is missing. Then start the server again.
<p>The API is at <code>/v1</code>: <a href="/v1/models">/v1/models</a> lists the models.
"""


def install(app: FastAPI, site: Site) -> None:
    """Serve ``site`` on ``app``, behind all routes that are there already."""
    pages = _Pages(site)
    for route in _ROUTES:
        app.add_route(route, pages.index, include_in_schema=False)
    app.add_route(f"/{ASSETS}{{name:path}}", pages.file, include_in_schema=False)
    # Such as an icon; the index is found under its routes alone.
    for name in site.names:
        if not name.startswith(ASSETS) and name != INDEX:
            app.add_route(f"/{name}", pages.file, include_in_schema=False)


def is_page(path: str) -> bool:
    """Whether a path is the page's or one of its files'."""
    return _OWN.fullmatch(path) is not None


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def index(self, request: Request) -> Response:
        """The page, for whoever takes HTML; programs are told that no endpoint is here."""
        accepted = _accepted(request, "accept")
        if self._site and (not accepted or {"text/html", "text/*", "*/*"} & accepted):
            return self._send(request, INDEX)
        if request.scope["path"] == "/" and "text/html" in accepted:
            return Response(_NOT_BUILT, 404, _GUARDS, "text/html; charset=utf-8")
        raise HTTPException(404)

    async def file(self, request: Request) -> Response:
        """One file."""
        return self._send(request, request.scope["path"].removeprefix("/"))

    def _send(self, request: Request, name: str) -> Response:
        variant = self._site.variant(name, _accepted(request, "accept-encoding"))
        if variant is None:
            raise HTTPException(404)
        headers = _headers(variant)
        if _is_known(request, variant.etag):
            return Response(status_code=304, headers=headers)
        return Response(variant.content, headers=headers, media_type=variant.media_type)


def _headers(variant: Variant) -> dict[str, str]:
    headers = {
        **_GUARDS,
        "etag": variant.etag,
        "cache-control": _FOR_EVER if variant.immutable else _ASK_AGAIN,
    }
    if variant.encoding:
        headers["content-encoding"] = variant.encoding
    if variant.varies:
        headers["vary"] = "Accept-Encoding"
    return headers


def _is_known(request: Request, etag: str) -> bool:
    """Whether the caller has this very content."""
    tags = {
        tag.strip().removeprefix("W/")
        for tag in request.headers.get("if-none-match", "").split(",")
    }
    return "*" in tags or etag in tags


def _accepted(request: Request, header: str) -> set[str]:
    """What a header such as ``text/html, */*;q=0.8`` names, without what it refuses (``q=0``)."""
    found = set()
    for part in ",".join(request.headers.getlist(header)).split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name and not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters):
            found.add(name)
    return found
