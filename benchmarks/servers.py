"""The servers under test: their commands, one process tree each, and its certain end."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from benchmarks.errors import BenchError
from benchmarks.machine import ENVIRONMENT, ROOT
from server.console import FetchBars
from server.registry import ModelStore, default_cache_dir, load_registry
from server.settings import Settings

# Neither server phones home; keys would have to be known to the load generator.
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "CORRAL_API_KEY": ""}
_POLL_S = 0.05
_STOP_S = 45.0
_TAIL_LINES = 15
_CAUSES = 8


@dataclass(frozen=True, slots=True)
class Model:
    """The model under test.

    Args:
        id: Name that requests ask for.
        directory: Its weights, config and tokenizer, read by both servers.
        registry: The registry file that has it.
        cache_dir: Corral's cache, where the model was prepared.
    """

    id: str
    directory: Path
    registry: Path
    cache_dir: Path

    @classmethod
    def prepare(cls, registry: Path, name: str | None = None) -> Model:
        """Bring a registry's model (the first by default) to this machine, as `corral` does."""
        loaded = load_registry(registry)
        entry = loaded.resolve(name) if name else loaded.models[0]
        cache_dir = Settings().cache_dir or default_cache_dir()
        directory = ModelStore(cache_dir).prepare(entry.source, FetchBars(entry.id))
        return cls(entry.id, directory, registry.resolve(), cache_dir.resolve())


@dataclass(frozen=True, slots=True)
class System:
    """A server that can be started.

    Args:
        name: In tables.
        command: Its command, without the port.
        cwd: Where it is started; None for the folder of its log.
        environment: Added to this process's environment.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def corral(model: Model) -> System:
    """Corral, as `make serve` starts it, but away from the .env file that a checkout may have."""
    command = (sys.executable, "-m", "server.cli", "serve", "--registry", str(model.registry))
    environment = {"PYTHONPATH": str(ROOT), "CORRAL_CACHE_DIR": str(model.cache_dir)}
    return System("Corral", command, environment=environment)


def vllm(model: Model, further: str = "") -> System:
    """vLLM's own server with its defaults, on the same weights under the same name.

    Args:
        model: The weights.
        further: Further arguments, as in a shell.
    """
    module = "vllm.entrypoints.openai.api_server"
    names = ("--model", str(model.directory), "--served-model-name", model.id)
    return System("vLLM", (sys.executable, "-m", module, *names, *shlex.split(further)))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running server; a context manager that leaves no process behind.

    Args:
        system: What to start.
        logs: Folder for its output.
        port: Port on 127.0.0.1; None takes a free one.
        environment: Added for this start alone.
    """

    def __init__(
        self,
        system: System,
        logs: Path,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = system.name
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [*system.command, "--port", str(self.port)]
        self._cwd = system.cwd or logs
        self._environment = {**ENVIRONMENT, **_QUIET, **system.environment, **(environment or {})}
        self._log = logs / f"{system.name.lower()}-{self.port}-{time.time_ns()}.log"
        self.started_at = 0.0

    def __enter__(self) -> Server:
        with self._log.open("wb") as log:
            self.started_at = time.perf_counter()
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle, and the group can be killed
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_ready(self, model: str, timeout_s: float) -> None:
        """Return as soon as the server says that it can answer for `model`.

        Raises:
            BenchError: It ended, could not load the model, or took too long.
        """
        deadline = time.monotonic() + timeout_s
        with httpx.Client(base_url=self.url, trust_env=False, timeout=5) as client:
            while not self._is_ready(client, model):
                self.check_alive()
                if time.monotonic() > deadline:
                    raise self.error(f"was not ready within {timeout_s:.0f} s")
                time.sleep(_POLL_S)

    def _is_ready(self, client: httpx.Client, model: str) -> bool:
        try:
            answer = client.get("/health")
        except httpx.TransportError:
            return False
        # vLLM answers an empty body, and only once it is ready; Corral at once, with each state.
        states = answer.json().get("models", {}) if answer.content else {}
        if states.get(model) == "failed":
            raise self.error(f"could not load {model}")
        return answer.is_success and states.get(model, "ready") == "ready"

    @property
    def front_pid(self) -> int:
        """Process id of the HTTP process: the one that was started, in both servers."""
        return self._process.pid

    def check_alive(self) -> None:
        """Raise BenchError if the server has ended."""
        code = self._process.poll()
        if code is not None:
            raise self.error(f"ended with exit code {code}")

    def error(self, what: str) -> BenchError:
        """An error with the causes named in the server's log, and the log's end."""
        return BenchError(f"{self.name} {what}. Its log:\n{excerpt(self._log)}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for whatever is left; returns when the whole tree has ended."""
        tree = process_tree(self._process.pid)
        try:
            self._process.terminate()
            _, left = psutil.wait_procs(tree, timeout=_STOP_S)
            if left:
                names = ", ".join(str(process.pid) for process in left)
                print(f"{self.name} left processes behind, killed now: {names}", file=sys.stderr)
        finally:
            kill_group(self._process.pid)
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(tree, timeout=10)


def excerpt(log: Path) -> str:
    """Of a log: the lines that name an exception, and the last lines."""
    lines = log.read_text(errors="replace").splitlines()
    head, tail = lines[:-_TAIL_LINES], lines[-_TAIL_LINES:]
    # Often a hundred lines of shutdown follow the cause.
    causes = [line for line in head if re.search(r"\b[A-Z]\w*(Error|Exception): ", line)]
    return "\n".join([*dict.fromkeys(causes[-_CAUSES:]), *tail])


def process_tree(pid: int) -> list[psutil.Process]:
    """The process and all its descendants that live now."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_group(leader: int) -> None:
    """SIGKILL to every process of the group that `leader` leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
