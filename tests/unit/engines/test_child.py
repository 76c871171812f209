"""An engine's process ends with the server, also in a Python that lacks ``os.pidfd_open``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
Start = Callable[..., "subprocess.Popen[str]"]
WATCH = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
if sys.argv[3] == "polling" and hasattr(os, "pidfd_open"):
    del os.pidfd_open
from server.engines import child
child.die_with(int(sys.argv[2]))
print("watching", flush=True)
time.sleep(60)
"""
WAYS = [
    "polling",
    pytest.param(
        "pidfd",
        marks=pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this Python lacks it"),
    ),
]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process; it is ended with the test."""
    running = []

    def run(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("way", WAYS)
def test_it_lives_as_long_as_the_server(way: str, start: Start) -> None:
    server = start("sleep", "60")
    engine = start(sys.executable, "-c", WATCH, str(ROOT), str(server.pid), way)
    assert engine.stdout is not None
    assert engine.stdout.readline() == "watching\n"
    with pytest.raises(subprocess.TimeoutExpired):
        engine.wait(1)  # it has looked more than once
    server.kill()
    server.wait()
    assert engine.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("way", WAYS)
def test_it_does_not_begin_after_the_servers_end(way: str, start: Start) -> None:
    server = start("true")
    server.wait()
    engine = start(sys.executable, "-c", WATCH, str(ROOT), str(server.pid), way)
    assert engine.wait(10) in (1, -signal.SIGKILL)


MAIN = """
import os, sys, types
sys.path.insert(0, sys.argv[1])
# What it does to grammars is not asked here, and imports vLLM.
sys.modules["server.engines.grammars"] = types.SimpleNamespace(install=lambda: None)
from server.engines import child
def target(name):
    print(os.environ[name], flush=True)
settings = child.ChildSettings(int(sys.argv[2]), None, {"CUDA_VISIBLE_DEVICES": "1"})
child.main(target, {"name": "CUDA_VISIBLE_DEVICES"}, settings)
"""


def test_it_sees_its_gpus_also_where_it_was_forked_without_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, str(ROOT), str(os.getpid())],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "0,1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
