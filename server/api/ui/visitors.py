"""Whose chats a request may see: those of its key or, where there are none, of its cookie."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Final, cast

from fastapi import Depends, Request, Response

from server.api.auth import KeyRing, Unauthorized
from server.storage.secrets import Secrets

# The beginning of its name.
COOKIE: Final = "corral_visitor"
_SIGNED_WITH: Final = "visitors"
_YEAR_S: Final = 365 * 24 * 3600
_VALUE: Final = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})")


class Visitors:
    """People without a key, each known by a signed cookie.

    Args:
        secrets: Holds what cookies are signed with.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._secret: bytes | None = None

    async def prepare(self) -> None:
        """Look the secret up.

        Raises:
            StorageFailed: The database cannot be used now.
        """
        self._secret = await self._secrets.get(_SIGNED_WITH)

    async def known(self, cookies: Mapping[str, str]) -> str | None:
        """Who brings these cookies; None: none of them is ours.

        Raises:
            StorageFailed: The database cannot be used now.
        """
        match = _VALUE.fullmatch(cookies.get(await self.name(), ""))
        if match is None:
            return None
        visitor, signature = match.groups()
        genuine = hmac.compare_digest(signature, await self._signature(visitor))
        return visitor if genuine else None

    async def name(self) -> str:
        """What the cookie is called: another name for each database.

        Cookies know no ports. Under one name, the servers of two databases on one machine would
        take away each other's visitors.

        Raises:
            StorageFailed: The database cannot be used now.
        """
        return f"{COOKIE}_{(await self._signature('name'))[:8]}"

    async def value(self, visitor: str) -> str:
        """What is in the cookie by which ``visitor`` is known.

        Raises:
            StorageFailed: The database cannot be used now.
        """
        return f"{visitor}.{await self._signature(visitor)}"

    async def _signature(self, visitor: str) -> str:
        if self._secret is None:
            await self.prepare()
        assert self._secret is not None
        return hmac.digest(self._secret, visitor.encode(), hashlib.sha256).hex()


def new_visitor() -> str:
    """Somebody who was never here (128 bits that nobody can guess)."""
    return secrets.token_hex(16)


async def greet(request: Request, response: Response) -> None:
    """Have the browser known from now on, for a year after its last visit.

    Raises:
        StorageFailed: The database cannot be used now.
    """
    visitors: Visitors = request.app.state.visitors
    known = await visitors.known(request.cookies)
    response.set_cookie(
        await visitors.name(),
        await visitors.value(known or new_visitor()),
        max_age=_YEAR_S,
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )


async def _visitor(request: Request) -> str:
    keys: KeyRing = request.app.state.keys
    if keys:
        return cast("str", request.state.owner)
    visitors: Visitors = request.app.state.visitors
    visitor = await visitors.known(request.cookies)
    if visitor is None:
        raise Unauthorized(
            "This browser is not known here yet. GET /ui/session gives it a cookie.",
            code="no_session",
        )
    return f"visitor {visitor}"


Visitor = Annotated[str, Depends(_visitor)]
