"""Taking a port, and telling who has it."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from server.commands.listen import PortError, PortOwner, listen, port_owner, reachable


class Handler(BaseHTTPRequestHandler):
    """Answers like a Corral with a key, or like vLLM's server, by the server's ``kind``."""

    def do_GET(self) -> None:
        kind = self.server.kind  # type: ignore[attr-defined]
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
def neighbour() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.kind = "corral"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True, args=(0.01,)).start()
    yield server
    server.shutdown()
    server.server_close()


def test_port_0_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
        assert not listener.getblocking()


def test_ipv6_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with listen("[::1]", 0) as listener:
        assert listener.family is socket.AF_INET6


def test_a_taken_port_names_its_owner_and_a_remedy(neighbour: ThreadingHTTPServer) -> None:
    port = neighbour.server_port
    with pytest.raises(PortError) as caught:
        listen("127.0.0.1", port)
    message = str(caught.value)
    assert message.startswith(f"Port {port} on 127.0.0.1 is in use by another Corral (process ")
    assert f"corral serve --port {port + 1 if port < 65535 else 8000}" in message


def test_nobody_on_the_port_is_sent_a_key(
    neighbour: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_API_KEY", "key")
    owner = port_owner("0.0.0.0", neighbour.server_port)
    assert owner is not None
    # The neighbour tells its version to the key "key" alone.
    assert (owner.corral, owner.pid) == ("?", os.getpid())


def test_another_server_with_a_version_is_no_corral(neighbour: ThreadingHTTPServer) -> None:
    neighbour.kind = "vllm"  # type: ignore[attr-defined]
    owner = port_owner("127.0.0.1", neighbour.server_port)
    assert owner is not None
    assert owner.corral is None


def test_a_free_port_has_no_owner() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    assert port_owner("127.0.0.1", port) is None


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("203.0.113.1", "203.0.113.1 is no address of this machine."),
        ("no such host", "'no such host' is no address of this machine: its name cannot"),
    ],
)
def test_an_address_of_somebody_else(host: str, message: str) -> None:
    with pytest.raises(PortError) as caught:
        listen(host, 0)
    assert str(caught.value).startswith(message)


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
