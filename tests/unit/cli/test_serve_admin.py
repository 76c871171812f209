"""`corral serve` while it is operated: reloads, keys, kills, and its end all the same."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.cli.test_serve import SCRIPT, Server

Start = Callable[..., Server]
NEW = {"id": "org/new", "source": {"directory": "tiny"}, "template": "raw"}


@pytest.fixture
def start(registry: Path) -> Iterator[Start]:
    running: list[Server] = []

    def run(*args: str, **environment: str) -> Server:
        running.append(Server(registry.parent, "--port", "0", *args, **environment))
        return running[-1].wait_for("ready after")

    yield run
    for server in running:
        server.close()


def models(server: Server) -> list[str]:
    return [model["id"] for model in httpx.get(server.url + "/v1/models").json()["data"]]


def until(look: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Streams:
    """Streams one after the other, in a thread.

    Attributes:
        whole: How many came to their end.
        broken: What became of the others.
    """

    def __init__(self, url: str) -> None:
        self.whole = 0
        self.broken: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def _ask(self) -> None:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        while not self._stop.is_set():
            try:
                answer = httpx.post(f"{self._url}/v1/chat/completions", json=body, timeout=20)
            except httpx.HTTPError as error:
                self.broken.append(repr(error))
                continue
            text = "".join(re.findall(r'"content":"(\w+)"', answer.text))
            if (text, answer.text[-8:]) == ("Hello", "[DONE]\n\n"):
                self.whole += 1
            else:
                self.broken.append(answer.text)


@pytest.mark.slow
def test_the_file_is_watched_and_no_stream_breaks(start: Start, registry: Path) -> None:
    server = start(SCRIPT_DELAY="0.2")
    streams = [Streams(server.url) for _ in range(4)]
    try:
        text = registry.read_text()
        registry.write_text(text.replace("A tiny model.", "A tinier model."))
        server.wait_for("the registry has changed")
        # A new model, and a shorter context for the one that is in use: another engine.
        edited = registry.with_suffix(".edited")
        edited.write_text(
            text.replace("{overflow: drop_oldest}", "{length: 200}")
            + "  - id: second\n    source: {directory: tiny}\n    engine: {threads: 1}\n"
        )
        edited.replace(registry)
        server.wait_for("added=second")
        until(lambda: models(server) == ["tiny", "tiny-raw", "second"])
        registry.write_text("models:\n  - id: tiny\n    sorce: {directory: tiny}\n")
        server.wait_for("the registry is not taken over, it has mistakes")
        assert "models.0: unknown field 'sorce' (did you mean 'source'?)" in server.said
        assert models(server) == ["tiny", "tiny-raw", "second"]
        registry.write_text(text)
        server.wait_for("removed=second")
    finally:
        for stream in streams:
            stream.end()
    assert [stream.broken for stream in streams] == [[]] * 4
    assert min(stream.whole for stream in streams) > 10
    assert server.tell(signal.SIGTERM) == 0


def test_sighup_has_the_file_read_again(start: Start, registry: Path) -> None:
    server = start("--no-watch")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("the registry was read again, and says nothing new")
    registry.write_text(registry.read_text().replace("tiny-raw", "tiny-base"))
    time.sleep(5)
    assert models(server) == ["tiny", "tiny-raw"], "it is not watched"
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("added=tiny-base removed=tiny-raw")
    assert models(server) == ["tiny", "tiny-base"]
    assert server.tell(signal.SIGTERM) == 0


def in_a_terminal(folder: Path, *before: str) -> tuple[subprocess.Popen[bytes], int]:
    """A server that leads a session with a terminal of its own, and the terminal's other end."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*before, sys.executable, str(SCRIPT), "serve", "--port", "0"],
        cwd=folder,
        env=os.environ | {"XDG_DATA_HOME": str(folder), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509 - nothing else runs in this process
    )
    os.close(theirs)
    said = b""
    deadline = time.monotonic() + 30
    while b"ready after" not in said:
        assert time.monotonic() < deadline, said
        said += os.read(ours, 4096)
    return process, ours


def test_whoever_closes_the_terminal_ends_the_server(registry: Path) -> None:
    process, terminal = in_a_terminal(registry.parent)
    try:
        process.send_signal(signal.SIGHUP)  # from somebody else: the terminal is still there
        said = b""
        while b"says nothing new" not in said:
            said += os.read(terminal, 4096)
        assert process.poll() is None
        os.close(terminal)
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_made_admin_key_is_shown_and_opens(start: Start) -> None:
    server = start(CORRAL_ADMIN_KEY="auto")
    found = re.search(
        r"^Admin key (sk-corral-\S+) \(made for this run\)$", server.said, re.MULTILINE
    )
    assert found is not None
    for key, status in ((found[1], 200), ("auto", 401)):
        answer = httpx.get(server.url + "/admin/models", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == status
    assert models(server) == ["tiny", "tiny-raw"], "the API is still open"
    environment = (server.logs() / "environment").read_text().splitlines()
    assert "CORRAL_ADMIN_KEY" not in environment


def test_beyond_this_machine_it_is_closed(start: Start) -> None:
    server = start("--host", "0.0.0.0", "--allow-no-key")
    answer = httpx.get(server.url + "/admin/models")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "admin_closed"
    assert models(server) == ["tiny", "tiny-raw"]


def test_what_was_added_survives_a_kill(start: Start) -> None:
    server = start()
    with httpx.Client(base_url=server.url, timeout=20) as client:
        strange = {"host": "evil.example"}
        assert client.post("/admin/models", json=NEW, headers=strange).status_code == 403
        assert client.post("/admin/models", json=NEW).status_code == 201
        server.process.kill()  # as soon as it has said so
    server.process.wait(20)
    server = start()
    assert models(server) == ["tiny", "tiny-raw", "org/new"]
    body = {"model": "org/new", "prompt": "Hi"}
    answer = httpx.post(server.url + "/v1/completions", json=body, timeout=20)
    assert answer.json()["choices"][0]["text"] == "Hello"
    assert httpx.delete(server.url + "/admin/models/org/new", timeout=20).status_code == 200
    server.process.kill()
    server.process.wait(20)
    assert models(start()) == ["tiny", "tiny-raw"]


def test_operators_who_watch_do_not_hold_up_the_end(start: Start) -> None:
    server = start()
    (server.logs() / "engine-tiny.log").write_text("one\n")
    seen: dict[str, Any] = {}

    def watch(path: str) -> None:
        with httpx.stream("GET", server.url + path, timeout=20) as answer:
            seen[path] = b""
            for piece in answer.iter_bytes():
                seen[path] += piece

    paths = ("/admin/events", "/admin/models/tiny/logs?follow=true")
    threads = [threading.Thread(target=watch, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    until(lambda: len(seen) == 2 and all(seen.values()))
    began = time.monotonic()
    assert server.tell(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10, "the time that answers have to finish is 30 s"
    for thread in threads:
        thread.join(5)
    assert seen[paths[1]] == b"one\n"
    first = json.loads(seen[paths[0]].split(b"\n")[1].removeprefix(b"data: "))
    assert first["models"]["data"][0]["status"] == "ready"
