"""Who may operate the server.

With admin keys: whoever brings one. Without, while there are API keys or others reach the machine's
port: nobody. Without any keys on a server that only this machine reaches: its users, and none of
the web pages that their browsers show. A page can send requests to ``127.0.0.1`` whatever its
origin, and with a name of its own that it has pointed there (DNS rebinding) even read the answers;
what gives it away are the headers ``Origin``, ``Sec-Fetch-Site`` and ``Host``, which no page can
forge.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Literal

from fastapi import Request

from server.api.auth import Forbidden, KeyRing, sent_key
from server.api.cross_origin import FOREIGN, is_foreign

# Pages of other origins may neither ask before they send nor read what is answered.
_ADAPTER_PATHS: Final = frozenset({"/load_lora_adapter", "/unload_lora_adapter"})
_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")
# A proxy on this machine makes everybody look like one of its users.
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SET_A_KEY: Final = (
    "Set CORRAL_ADMIN_KEY (or --admin-key) and send the key as 'Authorization: Bearer ADMIN_KEY'."
)
CLOSED: Final = "admin_closed"


def is_admin_path(path: str) -> bool:
    """Whether a path is for operators."""
    return (
        path == "/admin"
        or path.startswith("/admin/")
        or (path.removeprefix("/v1") in _ADAPTER_PATHS)
    )


class AdminDoor:
    """Lets operators in.

    Args:
        admin: The admin keys.
        api: The API keys.
        local: Only this machine reaches the server.
    """

    def __init__(self, admin: KeyRing, api: KeyRing, *, local: bool) -> None:
        self._admin = admin
        self._api = api
        self._local = local

    @property
    def has_keys(self) -> bool:
        """Whether who is let in has shown a key."""
        return bool(self._admin)

    def state(self, request: Request) -> Literal["open", "key", "closed"]:
        """Whether the caller of ``request`` needs a key to be let in, or cannot be."""
        if self._admin:
            return "key"
        try:
            self.check(request)
        except Forbidden:
            return "closed"
        return "open"

    def check(self, request: Request) -> None:
        """Let the caller of ``request`` in.

        Raises:
            Unauthorized: No key was sent, or one that nobody knows.
            Forbidden: The key is not an admin's, or nobody may from where the request comes.
        """
        if self._admin:
            key = sent_key(request)
            if not self._admin.knows(key) and self._api and self._api.knows(key):
                raise Forbidden(
                    "This key may use the models and not operate the server. Send one of "
                    "CORRAL_ADMIN_KEY.",
                    code=CLOSED,
                )
            self._admin.check(key)
        elif self._api or not self._local:
            raise Forbidden(f"The admin API of this server is closed. {_SET_A_KEY}", code=CLOSED)
        else:
            _refuse_strangers(request)


async def require_admin(request: Request) -> None:
    """The dependency of every route for operators.

    Raises:
        Unauthorized, Forbidden: See `AdminDoor.check`.
    """
    door: AdminDoor = request.app.state.desk.door
    door.check(request)


def _refuse_strangers(request: Request) -> None:
    """Let in what is sent by a program of this machine, or by a page of this server."""
    headers = request.headers
    if any(name in headers for name in _FORWARDED):
        raise Forbidden(
            f"The request came through a proxy, so anybody may have sent it. {_SET_A_KEY}",
            code=CLOSED,
        )
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _names_this_machine(hosts[0]):
        raise Forbidden(
            "Without an admin key this is answered under localhost or an IP address alone, not "
            f"under other host names. {_SET_A_KEY}",
            code=FOREIGN,
        )
    if is_foreign(headers):
        raise Forbidden(
            f"Web pages of other origins may not operate this server. {_SET_A_KEY}", code=FOREIGN
        )


def _names_this_machine(host: str) -> bool:
    """Whether a Host header holds what no stranger's DNS can point here."""
    match = _AUTHORITY.fullmatch(host)
    if match is None:
        return False
    name = match["host"].strip("[]").lower()
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
