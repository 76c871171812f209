"""A real server in a process of its own: start it, watch it, end it, and see what it leaves behind.

A server is started in a session of its own, so that everything it ever makes can be found by the
session's id, also after the server itself is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import psutil
import pytest

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
INSTRUCT = "smollm2-135m-instruct"
DIALOGUE = "smollm2-135m-dialogue"
RAW = "smollm2-135m-raw"
ALPACA = "smollm2-135m-alpaca"
# Without the second sentence two first tokens are equally likely, and the processor decides.
CAPITAL = "What is the capital of France? Answer in one sentence."
PARIS = "The capital of France is Paris."
# The first run ever downloads and converts the model; on a busy machine everything takes longer.
READY_S = 600.0
GONE_S = 30.0
_URL = re.compile(r"Base URL\s+(http://\S+)/v1")
_SHARED = pytest.StashKey["Server"]()


class Server:
    """One ``corral serve``, from its start to its end.

    Args:
        arguments: Further arguments of ``corral serve``.
        environment: Further environment variables.
    """

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._data = tempfile.TemporaryDirectory()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", "--port", "0", *arguments],
            cwd=ROOT,
            env=clean_environment() | {"XDG_DATA_HOME": self._data.name} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._url = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """Its address, without ``/v1``; waits until the start screen tells it."""
        if not self._url:
            found = self.until(lambda: _URL.search(self.output()), "an address")
            assert found is not None
            self._url = found.group(1)
        return self._url

    def output(self) -> str:
        """What it has printed so far, stdout and stderr."""
        if self._output.closed:
            return ""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def check_running(self) -> None:
        """Raise AssertionError with its output if it has ended."""
        code = self.process.poll()
        assert code is None, f"the server ended with {code}:\n{self.output()}"

    def health(self) -> dict[str, Any]:
        """``GET /health``; {} while it does not listen yet."""
        try:
            answer = httpx.get(self.url + "/health", timeout=5)
        except httpx.TransportError:
            self.check_running()
            return {}
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    def models(self) -> dict[str, dict[str, Any]]:
        """The entries of ``GET /v1/models`` by id."""
        data = httpx.get(self.url + "/v1/models", timeout=5).json()["data"]
        return {model["id"]: model for model in data}

    def wait_ready(self) -> Server:
        """Return when every model is ready.

        Raises:
            AssertionError: A model failed, or it took too long.
        """

        def ready() -> bool:
            statuses = set(self.health().get("models", {"": "none"}).values())
            assert "failed" not in statuses, self.output()
            return statuses == {"ready"}

        self.until(ready, "a server with every model ready", READY_S)
        return self

    def until(self, look: Callable[[], T], what: str, seconds: float = 120.0) -> T:
        """`until`, and an AssertionError with the server's output when it has ended."""

        def look_while_running() -> T:
            self.check_running()
            return look()

        return until(look_while_running, what, seconds)

    def family(self) -> list[psutil.Process]:
        """Every living process of the server's session, itself included."""
        return [process for process in psutil.process_iter() if _session(process) == self.pid]

    def engines(self) -> list[psutil.Process]:
        """The processes that run models: the children of the fork server."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                parent = process.parent()
                if parent is not None and "multiprocessing.forkserver" in " ".join(
                    parent.cmdline()
                ):
                    found.append(process)
        return found

    def engine(self) -> psutil.Process | None:
        """The process that runs the model, if there is one."""
        return next(iter(self.engines()), None)

    def engine_of(self, model: str) -> psutil.Process:
        """The process that runs this model, by the log that it writes."""
        for process in self.engines():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process.pid}/fd/1").readlink().name == f"engine-{model}.log":
                    return process
        raise AssertionError(f"no engine of {model}:\n{self.output()}")

    def status(self, model: str) -> str:
        """What ``GET /health`` says of a model; "" while the server does not listen yet."""
        return str(self.health().get("models", {}).get(model, ""))

    def wait_gone(self) -> None:
        """Return when no process of the server's session is left.

        Raises:
            AssertionError: Some outlive it.
        """
        self.process.wait(GONE_S)
        until(lambda: not self.family(), f"the end of {self.family()}", GONE_S)

    def end(self) -> None:
        """Kill whatever is left of it."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(GONE_S)
        self._output.close()
        self._data.cleanup()


def shared_server(config: pytest.Config) -> Server:
    """The one ready server of the test run; ends with it."""
    server = config.stash.get(_SHARED, None)
    if server is None:
        server = config.stash[_SHARED] = Server()
        config.add_cleanup(server.end)
        server.wait_ready()
    server.check_running()
    return server


def shared_output(config: pytest.Config) -> str:
    """The last lines of the shared server, for the report of a failed test."""
    server = config.stash.get(_SHARED, None)
    return "\n".join(server.output().splitlines()[-40:]) if server is not None else ""


def clean_environment() -> dict[str, str]:
    """The environment without settings that would change the server, but for the cache."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "CORRAL_CACHE_DIR" or not name.startswith(("CORRAL_", "OPENAI_"))
    }


def until(look: Callable[[], T], what: str, seconds: float = 60.0) -> T:
    """``look``'s first true answer.

    Raises:
        AssertionError: There was none in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := look():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@contextlib.contextmanager
def a_server(*arguments: str, **environment: str) -> Iterator[Server]:
    """A server for one test, with further arguments and environment variables."""
    server = Server(*arguments, environment=environment)
    try:
        yield server
    except BaseException:
        print(server.output())  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        server.end()


def kill(process: psutil.Process | int) -> None:
    """SIGKILL."""
    os.kill(process if isinstance(process, int) else process.pid, signal.SIGKILL)


def _session(process: psutil.Process) -> int | None:
    try:
        # A zombie has ended; only its parent has yet to notice.
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None
