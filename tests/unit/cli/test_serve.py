"""``corral serve`` as a process, with a scripted engine: its screen, its exit codes, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

SCRIPT = Path(__file__).with_name("serve_scripted.py")
Start = Callable[..., "Server"]


class Server:
    """A running `corral serve`."""

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        self._log = (folder / f"stderr-{time.monotonic_ns()}").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "serve", *args],
            cwd=folder,
            env=os.environ
            | {"PYTHONWARNINGS": "error", "XDG_DATA_HOME": str(folder)}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    @property
    def said(self) -> str:
        """Everything on stderr so far."""
        self._log.seek(0)
        return self._log.read()

    @property
    def url(self) -> str:
        found = re.search(r"Base URL  (http://\S+)/v1", self.said)
        assert found is not None, self.said
        return found[1]

    def logs(self) -> Path:
        found = re.search(r"Logs      (.*)", self.said)
        assert found is not None, self.said
        return Path(found[1])

    def wait_for(self, text: str) -> Server:
        deadline = time.monotonic() + 30
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return self

    def end(self) -> int:
        return self.process.wait(20)

    def tell(self, number: int) -> int:
        self.process.send_signal(number)
        return self.end()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()


@pytest.fixture
def start(registry: Path) -> Iterator[Start]:
    running: list[Server] = []

    def run(*args: str, **environment: str) -> Server:
        server = Server(registry.parent, *args, **environment)
        running.append(server)
        return server

    yield run
    for server in running:
        server.close()


def ask(url: str, **headers: str) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def test_it_starts_answers_and_ends(start: Start) -> None:
    server = start("--port", "0").wait_for("ready after")
    assert int(server.url.rpartition(":")[2]) > 0
    answer = ask(server.url)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert server.tell(signal.SIGTERM) == 0
    said = server.said
    lines = [line for line in said.splitlines() if line]
    assert lines[-1] == "Stopped."
    seconds = re.search(r"^tiny \(with tiny-raw\): ready after (\d+\.\d) s$", said, re.MULTILINE)
    assert seconds is not None
    assert float(seconds[1]) > 0
    assert len(lines) == len(set(lines)), "a line is repeated"
    assert "\x1b" not in said
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""


def test_ctrl_c_ends_with_130(start: Start) -> None:
    assert start("--port", "0").wait_for("ready after").tell(signal.SIGINT) == 130


def test_a_running_answer_is_finished_first(start: Start) -> None:
    server = start("--port", "0", SCRIPT_DELAY="1.0").wait_for("ready after")
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, server.url)
        time.sleep(0.4)
        assert server.tell(signal.SIGTERM) == 0
        assert "Stopping: answers under way may go on for 30 s." in server.said
        assert answer.result().json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_load_that_cannot_be_cancelled_holds_nothing_up(
    start: Start, number: int, code: int
) -> None:
    server = start("--port", "0", SCRIPT_LOAD="forever").wait_for("tiny: loading the model")
    helper = int((server.logs() / "helper.pid").read_text())
    began = time.monotonic()
    assert server.tell(number) == code
    assert time.monotonic() - began < 3
    while psutil.pid_exists(helper):
        assert time.monotonic() - began < 5
        time.sleep(0.05)


def test_two_servers_on_one_port(start: Start) -> None:
    first = start("--port", "0").wait_for("ready after")
    port = first.url.rpartition(":")[2]
    second = start("--port", port)
    assert second.end() == 69
    assert re.fullmatch(
        rf"corral: Port {port} on 127.0.0.1 is in use by Corral \S+ \(process "
        rf"{first.process.pid}\). Stop it, or choose another port: .*\n",
        second.said,
    )
    assert ask(first.url).status_code == 200


def test_a_made_key_opens_the_door(start: Start) -> None:
    server = start("--port", "0", CORRAL_API_KEY="auto").wait_for("ready after")
    found = re.search(r"API key   (sk-corral-\S+) ", server.said)
    assert found is not None
    assert ask(server.url).status_code == 401
    assert ask(server.url, authorization=f"Bearer {found[1]}").status_code == 200


@pytest.mark.parametrize("name", ["CORRAL_API_KEY", "corral_api_key"])
def test_no_process_below_the_server_carries_the_key(start: Start, name: str) -> None:
    environment = {name: "sk-secret", "SCRIPT_LOAD": "forever"}
    server = start("--port", "0", **environment).wait_for("tiny: loading the model")
    locked = ask(server.url, **{"x-api-key": "none"}).status_code
    logs = server.logs()
    helper = psutil.Process(int((logs / "helper.pid").read_text())).environ()
    server.tell(signal.SIGTERM)
    assert locked == 401
    assert name not in (logs / "environment").read_text().split()
    assert "SCRIPT_LOAD" in helper
    assert "sk-secret" not in helper.values()


def refusal(start: Start, *args: str, **environment: str) -> tuple[int, str]:
    server = start(*args, **environment)
    return server.end(), server.said


def test_an_open_door_is_refused(start: Start) -> None:
    code, said = refusal(start, "--host", "0.0.0.0")
    assert code == 78
    assert said.startswith("corral: Refusing to listen on 0.0.0.0 without an API key: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("keys", "words"), [(",", "holds no key"), ("é", "ASCII")])
def test_keys_that_open_nothing_are_refused(start: Start, keys: str, words: str) -> None:
    code, said = refusal(start, CORRAL_API_KEY=keys)
    assert code == 78
    assert said.startswith("corral: ")
    assert words in said
    assert len(said.splitlines()) == 1


def test_unless_it_is_wanted(start: Start) -> None:
    server = start("--host", "0.0.0.0", "--port", "0", "--allow-no-key").wait_for("ready after")
    assert ask(server.url).status_code == 200


def test_every_mistake_of_the_registry_with_its_line(start: Start, registry: Path) -> None:
    registry.write_text("models:\n  - id: a b\n    source: {hub: x/y}\n    template: alpca\n")
    code, said = refusal(start)
    assert code == 78
    first, *problems = said.splitlines()
    assert first == "corral: the registry has 2 problems:"
    assert [problem.split(" ")[2] for problem in problems] == [
        "model_registry.yaml:2:",
        "model_registry.yaml:4:",
    ]


def test_a_bad_value_is_one_line(start: Start) -> None:
    code, said = refusal(start, "--port", "http")
    assert (code, said) == (2, "corral: --port must be a whole number, not 'http'.\n")
    code, said = refusal(start, CORRAL_DRAIN_SECONDS="-1")
    assert (code, said) == (2, "corral: CORRAL_DRAIN_SECONDS must be at least 0, not '-1'.\n")


def test_a_cache_that_cannot_be_written(start: Start, home: Path) -> None:
    (home / "file").write_text("")
    code, said = refusal(start, "--port", "0", "--cache-dir", str(home / "file"))
    assert code == 73
    assert said.startswith(f"corral: {home / 'file'}")
    assert len(said.splitlines()) == 1


def test_the_port_comes_from_the_environment_unless_a_flag_says_otherwise(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = refusal(start, CORRAL_PORT=port)
        assert code == 69
        assert f"Port {port} on 127.0.0.1 is in use by" in said
        start("--port", "0", CORRAL_PORT=port).wait_for("ready after")


def test_the_curl_line_works_as_it_is_printed(start: Start) -> None:
    server = start("--port", "0").wait_for("ready after")
    command = next(line for line in server.said.splitlines() if line.startswith("curl"))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    chunks = [line[6:] for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert chunks[-1] == "[DONE]"
    texts = [json.loads(c)["choices"][0]["delta"].get("content", "") for c in chunks[:-1]]
    assert "".join(texts) == "Hello"


def test_chats_survive_a_kill(start: Start) -> None:
    server = start("--port", "0").wait_for("ready after")
    with httpx.Client(base_url=server.url, timeout=20) as client:
        client.get("/ui/session")
        chat = client.post("/ui/chats", json={"title": "Kept"}).json()["id"]
        path = f"/ui/chats/{chat}/messages"
        question = {"parent": None, "role": "user", "content": "Hi"}
        parent = client.post(path, json=question).json()["id"]
        answer = {"parent": parent, "role": "assistant", "content": "", "state": "partial"}
        number = client.post(path, json=answer).json()["id"]
        last = client.patch(f"{path}/{number}", json={"content": "Hel"}).json()
        # In the moment in which the browser hears of it.
        server.process.kill()
        server.end()
        port = server.url.rpartition(":")[2]
        start("--port", port).wait_for("ready after")
        (shown,) = client.get("/ui/chats").json()["data"]
        assert (shown["id"], shown["title"], shown["leaf"]) == (chat, "Kept", number)
        messages = client.get(path).json()["data"]
        assert [message["content"] for message in messages] == ["Hi", "Hel"]
        assert messages[1] == last
        assert last["state"] == "partial"


@pytest.mark.parametrize(("trusted", "secure"), [("", False), ("10.0.0.0/8,127.0.0.1", True)])
def test_whose_word_counts_for_https(start: Start, trusted: str, secure: bool) -> None:
    server = start("--port", "0", CORRAL_TRUSTED_PROXIES=trusted).wait_for("ready after")
    answer = httpx.get(server.url + "/ui/session", headers={"x-forwarded-proto": "https"})
    assert answer.headers["set-cookie"].endswith("; Secure") is secure
