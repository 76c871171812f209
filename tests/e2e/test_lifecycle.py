"""Starts, ends and deaths, each with a server of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from tests.e2e.harness import (
    CAPITAL,
    INSTRUCT,
    RAW,
    ROOT,
    Server,
    a_server,
    clean_environment,
    kill,
    until,
)

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


def run_serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``corral serve`` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "server.cli", "serve", *arguments],
        cwd=ROOT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_server_on_the_port_says_so(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    done = run_serve("--port", port)
    assert done.returncode == 69
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert f"PORT={int(port) + 1}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_door_is_refused() -> None:
    done = run_serve("--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 78
    assert "without an API key" in done.stderr
    assert "--allow-no-key" in done.stderr


def test_a_wrong_registry_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("models:\n  - id: a\n    source: {directory: x}\n    tmeplate: raw\n")
    done = run_serve("--registry", str(path), "--port", "0")
    assert done.returncode != 0
    assert "registry.yaml:4" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_answers_while_loading_and_a_kill_then_leaves_nothing() -> None:
    with a_server() as server:
        server.until(lambda: server.health().get("status") == "ok", "an answer")
        assert set(server.health()["models"].values()) == {"loading"}
        model = server.models()[INSTRUCT]
        assert model["status"] == "loading"
        assert model["status_detail"]
        # The engine's process is there, its model is not.
        server.until(server.engine, "the engine's process")
        assert set(server.health()["models"].values()) == {"loading"}
        assert len(server.family()) >= 3
        kill(server.pid)
        server.wait_gone()


def test_a_kill_before_the_engine_is_made_leaves_nothing() -> None:
    with a_server() as server:
        server.until(lambda: len(server.family()) >= 2, "the fork server")
        assert server.engine() is None
        kill(server.pid)
        server.wait_gone()


def test_a_kill_while_answering_leaves_nothing() -> None:
    with a_server() as server:
        server.wait_ready()
        with endless(server) as response:
            next(response.iter_lines())
            kill(server.pid)
            server.wait_gone()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """One for the tests below, the last of which ends it."""
    with a_server() as server:
        server.wait_ready()
        yield server


def endless(server: Server, tokens: int = 4000) -> Any:
    """An open stream of that many tokens, a minute and more of work by default."""
    body = {"model": RAW, "prompt": "Once", "max_tokens": tokens, "min_tokens": tokens}
    url = server.url + "/v1/completions"
    return httpx.stream("POST", url, json=body | {"stream": True}, timeout=120)


def answer(server: Server) -> str | None:
    """What is said to the same question each time."""
    with OpenAI(base_url=server.url + "/v1", api_key="none", timeout=120, max_retries=0) as sdk:
        completion = sdk.chat.completions.create(
            model=INSTRUCT,
            messages=[{"role": "user", "content": CAPITAL}],
            temperature=0,
            max_tokens=16,
        )
    return completion.choices[0].message.content


def test_the_death_of_an_engine_ends_its_streams_and_is_mended(own_server: Server) -> None:
    before = answer(own_server)
    engine = own_server.engine()
    assert engine is not None
    client = OpenAI(base_url=own_server.url + "/v1", api_key="none", timeout=120, max_retries=0)
    with client, endless(own_server) as response:
        stream = client.completions.create(
            model=RAW,
            prompt="Once",
            max_tokens=4000,
            stream=True,
            extra_body={"min_tokens": 4000},
        )
        next(stream)
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        kill(engine)
        events = [line for line in lines if line.startswith("data:")]
        with pytest.raises(APIError) as caught:
            list(stream)
    assert "data: [DONE]" not in events
    bodies = [json.loads(event.removeprefix("data: ")) for event in events]
    failures = [body for body in bodies if "error" in body]
    assert failures == bodies[-1:]
    assert failures[0]["error"]["code"] == "engine_died"
    assert caught.value.code == "engine_died"
    # The next request is answered, by a new engine.
    assert before
    assert answer(own_server) == before
    successor = own_server.engine()
    assert successor is not None
    assert successor.pid != engine.pid


def test_sigterm_lets_running_answers_end(own_server: Server) -> None:
    host, _, port = own_server.url.removeprefix("http://").rpartition(":")
    with endless(own_server, 150) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        own_server.process.send_signal(signal.SIGTERM)
        until(lambda: not listening(host, int(port)), "the port to be let go")
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert '"finish_reason":"length"' in rest[-2]
    assert own_server.process.wait(60) == 0
    own_server.wait_gone()


def test_ctrl_c_while_loading_ends_it() -> None:
    with a_server() as server:
        server.until(lambda: server.health().get("status") == "ok", "an answer")
        server.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert server.process.wait(60) in (0, 130)
        assert time.monotonic() - began < 15
        assert "Traceback" not in server.output()
        server.wait_gone()


def ctrl_c(server: Server) -> None:
    """As a terminal sends it: to every process of the group, engines' helpers too."""
    os.killpg(server.pid, signal.SIGINT)


def test_ctrl_c_in_a_terminal_lets_running_answers_end() -> None:
    with a_server() as server:
        server.wait_ready()
        with endless(server, 150) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            ctrl_c(server)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in rest[-2]
        assert server.process.wait(60) == 130
        assert "Traceback" not in server.output()
        server.wait_gone()


def test_a_second_ctrl_c_ends_at_once() -> None:
    with a_server() as server:
        server.wait_ready()
        with endless(server) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            ctrl_c(server)
            server.until(lambda: "Ctrl-C ends them now" in server.output(), "the first to be heard")
            assert next(line for line in lines if line).startswith("data: ")
            ctrl_c(server)
            began = time.monotonic()
            assert server.process.wait(60) == 130
            assert time.monotonic() - began < 10
        assert "Traceback" not in server.output()
        server.wait_gone()


def listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
