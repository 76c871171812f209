"""API keys: one dependency that guards every route."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from fastapi import Request

from server.errors import CorralError

# Answered without a key: load balancers and container health checks have none, and the chat page
# asks whether it needs one.
PUBLIC_PATHS = frozenset({"/health", "/ui/session"})


class Unauthorized(CorralError):
    """No key, or not one of ours.

    Args:
        message: What to send, without repeating a secret.
        code: ``invalid_api_key`` when a key was sent, None otherwise.
    """

    def __init__(self, message: str, *, code: str | None) -> None:
        super().__init__(message)
        self.code = code


class Forbidden(CorralError):
    """The caller is known, or need not be, and still may not do this.

    Args:
        message: Why not, and what would open the door.
        code: For machines.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class KeyRing:
    """The accepted keys; with none, every request is let in.

    Keys are compared as SHA-256 digests in constant time, every one of them each time, so that the
    time taken tells neither a key's beginning nor its place in the list.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, key: str) -> None:
        """Let ``key`` in.

        Raises:
            Unauthorized: It is empty or unknown.
        """
        if not self._digests:
            return
        if not key:
            raise Unauthorized(
                "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY' (the "
                "api_key of an OpenAI client).",
                code=None,
            )
        if not self.knows(key):
            raise Unauthorized(
                f"Incorrect API key provided: {_masked(key)}. Ask the operator of this server for "
                "one.",
                code="invalid_api_key",
            )

    def knows(self, key: str) -> bool:
        """Whether ``key`` is one of them."""
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def owner(self, key: str) -> str:
        """Whose what ``key`` stores is: the same text in every run, which tells nothing of the key.

        Without keys everybody shares what is stored, and the owner is "".
        """
        return _digest("corral owner " + key).hex()[:32] if self._digests else ""


async def require_key(request: Request) -> None:
    """The dependency: Bearer, ``api-key`` or ``x-api-key``.

    Raises:
        Unauthorized: See `KeyRing.check`.
    """
    # Not `request.url`, which is put together with what the caller sent as Host.
    if request.scope["path"] in PUBLIC_PATHS:
        return
    ring: KeyRing = request.app.state.keys
    key = sent_key(request)
    ring.check(key)
    request.state.owner = ring.owner(key)


def sent_key(request: Request) -> str:
    """The key that came with a request; "" without one."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return bearer or request.headers.get("x-api-key") or request.headers.get("api-key") or ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _masked(key: str) -> str:
    # A key that is not ASCII has been read as Latin-1 and looks like nothing its owner knows.
    shown = len(key) >= 12 and key.isascii()
    return f"{key[:3]}***{key[-2:]}" if shown else "***"
