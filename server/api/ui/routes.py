"""All routes under ``/ui``."""

from __future__ import annotations

from typing import Final

from server.api.ui import chats, messages, presets, session, transfer

PREFIX: Final = "/ui"
ROUTERS: Final = tuple(part.router for part in (session, chats, messages, transfer, presets))


def is_ui(path: str) -> bool:
    """Whether a path is below ``/ui``."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")
