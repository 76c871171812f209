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

import psutil

from server.errors import CorralError

# A Corral that loads a model may take a second to answer.
_ASK_TIMEOUT_S = 1.5


class PortError(CorralError):
    """The address cannot be listened on; says why and what to do."""


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


def listen(host: str, port: int) -> socket.socket:
    """A listening, non-blocking socket; port 0 takes a free one.

    Raises:
        PortError: The address cannot be used.
    """
    host = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise PortError(
            f"'{host}' is no address of this machine: its name cannot be resolved. Use 127.0.0.1 "
            "for this machine alone, or 0.0.0.0 for all of its networks."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PortError(_refusal(error, host, port)) from None
    listener.setblocking(False)
    return listener


def port_owner(host: str, port: int) -> PortOwner | None:
    """Who listens on a port now, or None if it can be had.

    Args:
        host: The address one would listen on.
        port: The port; 0 is always free.
    """
    try:
        listen(host, port).close()
    except PortError:
        return _owner(host, port)
    return None


def reachable(host: str) -> str:
    """An address under which this machine reaches a server that listens on ``host``, for URLs."""
    host = host.strip("[]")
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = _owner(host, port)
        other = port + 1 if port < 65535 else 8000
        return (
            f"Port {port} on {host} is in use by {owner}. Stop it, or choose another port: "
            f"corral serve --port {other} (or make serve PORT={other})."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine. Use 127.0.0.1, 0.0.0.0 or one it has."
    if error.errno == errno.EACCES:
        return f"Port {port} needs root's rights. Choose one from 1024 on: corral serve --port 8000"
    return f"Cannot listen on {host}:{port}: {error.strerror or error}."


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
