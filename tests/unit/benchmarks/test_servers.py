"""Servers as processes: started, watched, and ended with all that they started."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import servers
from benchmarks.contention import busy_core
from benchmarks.errors import BenchError
from benchmarks.process_clock import process_cpu_seconds
from benchmarks.servers import Server, System, excerpt, process_tree
from benchmarks.stream_client import ask
from tests.unit.benchmarks.support_fake_server import HTTP

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time\n"
    f"subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])\n"
    "print('started', flush=True)\n"
    "time.sleep(60)\n"
)


def system(code: str) -> System:
    return System("Fake", (sys.executable, "-c", code))


def wait_for(text: str, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while text not in "".join(log.read_text() for log in folder.glob("*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failure_ends_the_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_STOP_S", 0.5)
    tree: list[psutil.Process] = []

    def interrupted() -> None:
        with Server(system(PARENT), tmp_path) as server:
            wait_for("started", tmp_path)
            tree.extend(process_tree(server.front_pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(tree) == 2
    assert not any(process.is_running() for process in tree)


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    code = "raise SystemExit('no such model')"
    with (
        Server(system(code), tmp_path) as server,
        pytest.raises(BenchError, match=r"(?s)Fake ended with exit code 1.*no such model"),
    ):
        server.wait_ready("m", timeout_s=20)


def test_a_server_that_never_answers_is_not_waited_for_forever(tmp_path: Path) -> None:
    with (
        Server(system("import time; time.sleep(60)"), tmp_path) as server,
        pytest.raises(BenchError, match=r"not ready within 0 s"),
    ):
        server.wait_ready("m", timeout_s=0.2)


def test_readiness_and_the_first_token_of_a_stream(tmp_path: Path) -> None:
    with Server(system(HTTP), tmp_path) as server:
        answer = ask(server.port, "m", timeout_s=20, check_alive=server.check_alive)
        assert answer.text == "Paris"
        assert server.started_at < answer.accepted_at < answer.first_token_at <= answer.ended_at
        server.wait_ready("m", timeout_s=20)
        with pytest.raises(BenchError, match="could not load bad"):
            server.wait_ready("bad", timeout_s=20)
        with pytest.raises(BenchError, match="status 404"):
            ask(server.port, "other", timeout_s=20, check_alive=server.check_alive)


def test_cpu_clock_of_a_process_is_its_own() -> None:
    before = time.process_time()
    seen = process_cpu_seconds(os.getpid())
    assert before <= seen <= time.process_time()


def test_a_busy_core_is_busy_and_then_free() -> None:
    with busy_core() as process:
        deadline = time.monotonic() + 20
        while process_cpu_seconds(process.pid) <= 0.2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert process.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(process.pid)


def test_excerpt_shows_the_cause_above_a_long_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    noise = [f"shutting down, step {number}" for number in range(50)]
    log.write_text("\n".join(["starting", "(pid=1) ValueError: too little memory", *noise]))
    lines = excerpt(log).splitlines()
    assert lines[0] == "(pid=1) ValueError: too little memory"
    assert lines[1:] == noise[-15:]
