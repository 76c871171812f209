"""The port: taking it, and saying who has it when it is taken."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from server.errors import CorralError

# A Corral that loads a model may take a second to answer.
_ASK_TIMEOUT_S = 1.5
# Linux keeps the ports below for root.
_FIRST_FREE_PORT = 1024
_DEFAULT_PORT = 8000


class PortError(CorralError):
    """The address cannot be listened on.

    Args:
        what: Why not.
        remedy: What to do about it, or "" where nothing is known to help.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".rstrip())
        self.what = what
        self.remedy = remedy


# How a Corral's command line names it.
_COMMANDS = ("corral", "server.cli")


@dataclass(frozen=True, slots=True)
class PortOwner:
    """Who listens on a port.

    Args:
        corral: Its version if it is a Corral (``?`` where it does not tell), else None.
        pid: Its process, or None where that may not be seen.
        command: The name of that process, or "".
    """

    corral: str | None = None
    pid: int | None = None
    command: str = ""

    def __str__(self) -> str:
        who = self.command or "another program"
        if self.corral is not None:
            who = "another Corral" if self.corral == "?" else f"Corral {self.corral}"
        return f"{who} (process {self.pid})" if self.pid is not None else who


class PortTaken(PortError):
    """Somebody else listens there.

    Args:
        owner: Who.
        what: See `PortError`.
        remedy: See `PortError`.
    """

    def __init__(self, owner: PortOwner, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.owner = owner


def listen(host: str, port: int) -> socket.socket:
    """A listening, non-blocking socket; port 0 takes a free one.

    A name with addresses of both kinds, as ``localhost`` has on many machines, is taken by its
    IPv4: clients that are told 127.0.0.1 must find it.

    Raises:
        PortTaken: Somebody else listens there.
        PortError: The address cannot be used.
    """
    host = host.strip("[]")
    family, address = _resolve(host, port)
    try:
        # The protocol is named because asyncio turns off Nagle's algorithm only then.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _refusal(error, host, port) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _refusal(error, host, port) from None
    listener.setblocking(False)
    return listener


def port_owner(host: str, port: int) -> PortOwner | None:
    """Who listens on a port now, or None if it can be had.

    Args:
        host: The address one would listen on.
        port: The port; 0 is always free.

    Raises:
        PortError: Nobody has it, and it cannot be listened on all the same.
    """
    try:
        listen(host, port).close()
    except PortTaken as error:
        return error.owner
    return None


def reachable(host: str) -> str:
    """An address under which this machine reaches a server that listens on ``host``, for URLs."""
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _resolve(host: str, port: int) -> tuple[int, Any]:
    """Family and address of a host, its IPv4 before others."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise PortError(
            f"The host name '{host}' cannot be resolved to an address.",
            "Use 127.0.0.1 for this machine alone, or 0.0.0.0 for all of its networks.",
        ) from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def _refusal(error: OSError, host: str, port: int) -> PortError:
    if error.errno == errno.EADDRINUSE:
        owner = _owner(host, port)
        other = port + 1 if port < 65535 else _DEFAULT_PORT
        return PortTaken(
            owner,
            f"Port {port} on {host} is in use by {owner}.",
            f"Stop it, or choose another port: {_serve_on(other)}",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return PortError(
            f"{host} is no address of this machine.", "Use 127.0.0.1, 0.0.0.0 or one it has."
        )
    if error.errno == errno.EACCES and port < _FIRST_FREE_PORT:
        return PortError(
            f"Port {port} on {host}: ports below {_FIRST_FREE_PORT} need root's rights.",
            f"Choose another: {_serve_on(_DEFAULT_PORT)}",
        )
    shown = f"[{host}]" if ":" in host else host
    return PortError(f"Cannot listen on {shown}:{port}: {error.strerror or error}.")


def _serve_on(port: int) -> str:
    return f"corral serve --port {port} (or make serve PORT={port})."


def _owner(host: str, port: int) -> PortOwner:
    version = _corral_version(reachable(host), port)
    process = _listener(port)
    if process is None:
        return PortOwner(version)
    try:
        command, name = process.cmdline(), process.name()
    except psutil.Error:
        return PortOwner(version, process.pid)
    if any(Path(word).name in _COMMANDS for word in command[:4]):
        version = version or "?"
    return PortOwner(version, process.pid, name)


def _listener(port: int) -> psutil.Process | None:
    """The process that listens on ``port``, as far as this user may see it."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                return psutil.Process(connection.pid) if connection.pid else None
    return None


def _corral_version(host: str, port: int) -> str | None:
    """The version of the Corral that answers there, ``?`` if it will not tell, None if none."""
    # Other servers have a /version too; a /health that speaks of models, without a key, is ours.
    # No key is ever sent: any program may sit on the port, and would have it.
    health = _ask(f"http://{host}:{port}/health")
    if not isinstance(health.get("models"), dict):
        return None
    version = _ask(f"http://{host}:{port}/version").get("version")
    return version if isinstance(version, str) else "?"


def _ask(url: str) -> dict[str, object]:
    request = urllib.request.Request(url)  # noqa: S310  # http, built above
    # Never through a proxy: the question is about this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_ASK_TIMEOUT_S) as answer:
            value = json.loads(answer.read(65536))
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return value if isinstance(value, dict) else {}
