"""``GET /ui/session``: what the page must know before anything else."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from server import __version__
from server.api.admin.desk import Desk
from server.api.auth import KeyRing, sent_key
from server.api.ui.parts import ui_router
from server.api.ui.visitors import Visitors, greet
from server.errors import StorageFailed

router = ui_router()


@router.get("/session")
async def session(request: Request, response: Response) -> dict[str, Any]:
    """Whether a key is needed and was sent, and whether chats are kept; needs no key itself.

    A browser gets its cookie here where there are no keys. Without a database nothing is kept, and
    the page chats all the same.
    """
    keys: KeyRing = request.app.state.keys
    visitors: Visitors = request.app.state.visitors
    desk: Desk = request.app.state.desk
    try:
        await visitors.prepare()
        if not keys:
            await greet(request, response)
        stored = True
    except StorageFailed:
        stored = False
    return {
        "version": __version__,
        "needs_key": bool(keys),
        "signed_in": not keys or keys.knows(sent_key(request)),
        "admin": desk.door.state(request),
        "stored": stored,
    }
