"""Taking a port, and telling who has it."""

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from server.commands.listen import PortError, PortOwner, listen, port_owner, reachable


class Neighbour(ThreadingHTTPServer):
    """Somebody else's server; ``kind`` says whose."""

    kind = "corral"


class Handler(BaseHTTPRequestHandler):
    """Answers like a Corral with a key, or like vLLM's server."""

    server: Neighbour

    def do_GET(self) -> None:
        kind = self.server.kind
        body: dict[str, object] | None = None
        if self.path == "/health" and kind == "corral":
            body = {"status": "ok", "models": {}}
        allowed = kind == "vllm" or self.headers["authorization"] == "Bearer key"
        if self.path == "/version" and allowed:
            body = {"version": "9.9"}
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(body or {}).encode())

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    server = Neighbour(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True, args=(0.01,)).start()
    yield server
    server.shutdown()
    server.server_close()


def test_port_0_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
        assert not listener.getblocking()


def has_ipv6_loopback() -> bool:
    """Not `socket.has_ipv6`: that one says what Python was built with."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_ipv6_in_brackets() -> None:
    if not has_ipv6_loopback():
        pytest.skip("this machine has no ::1 to listen on")
    with listen("[::1]", 0) as listener:
        assert listener.family is socket.AF_INET6


def test_a_taken_port_names_its_owner_and_a_remedy(neighbour: Neighbour) -> None:
    port = neighbour.server_port
    with pytest.raises(PortError) as caught:
        listen("127.0.0.1", port)
    message = str(caught.value)
    assert message.startswith(f"Port {port} on 127.0.0.1 is in use by another Corral (process ")
    assert f"corral serve --port {port + 1 if port < 65535 else 8000}" in message


def test_nobody_on_the_port_is_sent_a_key(
    neighbour: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_API_KEY", "key")
    owner = port_owner("0.0.0.0", neighbour.server_port)
    assert owner is not None
    # The neighbour tells its version to the key "key" alone.
    assert (owner.corral, owner.pid) == ("?", os.getpid())


def test_another_server_with_a_version_is_no_corral(neighbour: Neighbour) -> None:
    neighbour.kind = "vllm"
    owner = port_owner("127.0.0.1", neighbour.server_port)
    assert owner is not None
    assert owner.corral is None


def test_a_free_port_has_no_owner() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    assert port_owner("127.0.0.1", port) is None


def refuse_to_bind(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the kernel refuse every address, for this reason."""

    class Refused(socket.socket):
        def bind(self, _address: Any) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refused)


NO_ADDRESS = "is no address of this machine. Use 127.0.0.1, 0.0.0.0 or one it has."
NO_NAME = (
    "cannot be resolved to an address. Use 127.0.0.1 for this machine alone, or 0.0.0.0 for all of "
    "its networks."
)
LOW_PORT = (
    "Port 80 on 127.0.0.1: ports below 1024 need root's rights. Choose another: corral serve "
    "--port 8000 (or make serve PORT=8000)."
)


@pytest.mark.parametrize(
    ("number", "port", "message"),
    [
        (errno.EACCES, 80, LOW_PORT),
        (errno.EACCES, 8000, "Cannot listen on 127.0.0.1:8000: Permission denied."),
        (errno.EADDRNOTAVAIL, 8000, f"127.0.0.1 {NO_ADDRESS}"),
        (errno.ENOBUFS, 8000, "Cannot listen on 127.0.0.1:8000: No buffer space available."),
    ],
)
def test_a_refusal_is_told_by_its_reason(
    number: int, port: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_bind(monkeypatch, number)
    with pytest.raises(PortError) as caught:
        listen("127.0.0.1", port)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("203.0.113.1", f"203.0.113.1 {NO_ADDRESS}"),
        ("no such host", f"The host name 'no such host' {NO_NAME}"),
        ("x" * 70, f"The host name '{'x' * 70}' {NO_NAME}"),
    ],
)
def test_an_address_of_somebody_else(host: str, message: str) -> None:
    with pytest.raises(PortError) as caught:
        listen(host, 0)
    assert str(caught.value) == message


def test_an_address_that_cannot_be_had_has_no_owner() -> None:
    with pytest.raises(PortError, match=r"^203\.0\.113\.1 is no address of this machine"):
        port_owner("203.0.113.1", 8000)


def test_a_kind_of_address_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: Any) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(socket, "socket", lacking)
    with pytest.raises(PortError) as caught:
        listen("::1", 8000)
    assert str(caught.value) == (
        "Cannot listen on [::1]:8000: Address family not supported by protocol."
    )


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every host name lead to these."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_a_name_with_both_kinds_of_address_is_taken_by_its_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    with listen("localhost", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_name_with_ipv6_alone_is_taken_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_ipv6_loopback():
        pytest.skip("this machine has no ::1 to listen on")
    resolve_to(monkeypatch, "::1")
    with listen("localhost", 0) as listener:
        assert listener.getsockname()[0] == "::1"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("gpu-box", "gpu-box"),
    ],
)
def test_urls_lead_to_the_server(host: str, shown: str) -> None:
    assert reachable(host) == shown


@pytest.mark.parametrize(
    ("owner", "text"),
    [
        (PortOwner("1.0", 7, "python"), "Corral 1.0 (process 7)"),
        (PortOwner("?", None), "another Corral"),
        (PortOwner(None, 7, "nginx"), "nginx (process 7)"),
        (PortOwner(), "another program"),
    ],
)
def test_owners_in_words(owner: PortOwner, text: str) -> None:
    assert str(owner) == text
