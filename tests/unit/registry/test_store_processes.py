"""``ModelStore`` in several processes and threads: one builds, others wait, a kill does no harm.

The GGUF converter is replaced by one that copies a tiny model; ``test_convert`` has the real one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.registry import DirectorySource, ModelStore, sources
from tests.unit.registry.support_store import leftovers

Write = Callable[..., Path]
ROOT = Path(__file__).parents[3]

CHILD = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from server.registry import DirectorySource, ModelStore, sources
files, hang, log = json.loads(sys.argv[4]), sys.argv[5] == "hang", Path(sys.argv[6])

def convert(source, target, scratch, progress):
    target.mkdir()
    with log.open("a") as out:
        out.write(f"{os.getpid()}\\n")
    for name, content in files.items():
        (target / name).write_bytes(bytes.fromhex(content))
        time.sleep(60 if hang else 0.2)

sources.convert_gguf = convert
print(ModelStore(Path(sys.argv[2])).prepare(DirectorySource(directory=Path(sys.argv[3]))))
"""


@pytest.fixture
def child(
    store: ModelStore, gguf: DirectorySource, tmp_path: Path, write_model: Write
) -> Callable[..., subprocess.Popen[str]]:
    """Start a process that prepares the GGUF folder with a slow or a hanging converter."""
    made = write_model(tmp_path / "made")
    files = {path.name: path.read_bytes().hex() for path in sorted(made.iterdir())}

    def start(mode: str) -> subprocess.Popen[str]:
        arguments = [str(ROOT), str(store.cache_dir), str(gguf.directory), json.dumps(files)]
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments, mode, str(tmp_path / "log")],
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_process_leaves_no_model(
    child: Callable[..., subprocess.Popen[str]],
    store: ModelStore,
    gguf: DirectorySource,
    conversions: list[Path],
) -> None:
    process = child("hang")
    root = store.cache_dir / "models"
    wait_for(lambda: any(root.glob(".partial-*/model/config.json")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(leftovers(store)) == 1
    assert store.path_if_ready(gguf) is None
    # The lock went with the process, so this does not wait, and what it left is swept away.
    store.prepare(gguf)
    assert store.check(gguf) == []
    assert leftovers(store) == []


def test_leftovers_of_other_models_go_too_unless_they_are_being_built(
    child: Callable[..., subprocess.Popen[str]],
    store: ModelStore,
    tmp_path: Path,
    conversions: list[Path],
) -> None:
    process = child("hang")
    root = store.cache_dir / "models"
    wait_for(lambda: any(root.glob(".partial-*/model/config.json")))
    (building,) = leftovers(store)
    (root / ".partial-hub-gone-main-0123456789-77").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "m.gguf").touch()
    store.prepare(DirectorySource(directory=other))
    assert leftovers(store) == [building]
    process.kill()
    process.communicate()


def test_two_processes_build_once(
    child: Callable[..., subprocess.Popen[str]], store: ModelStore, tmp_path: Path
) -> None:
    processes = [child("slow") for _ in range(2)]
    paths = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert paths[0] == paths[1]
    assert len((tmp_path / "log").read_text().split()) == 1
    assert leftovers(store) == []


def test_whoever_waits_says_so(
    child: Callable[..., subprocess.Popen[str]],
    store: ModelStore,
    gguf: DirectorySource,
    recorder: Any,
    tmp_path: Path,
) -> None:
    process = child("slow")
    wait_for((tmp_path / "log").exists)
    path = store.prepare(gguf, recorder)
    assert process.communicate()[0].strip() == str(path)
    assert recorder.stages == [("waiting for another process that fetches this model", None, "")]


def test_threads_build_once_too(
    gguf: DirectorySource,
    store: ModelStore,
    write_model: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def convert(source: Path, target: Path, *_rest: Any) -> None:
        asked.append(source)
        time.sleep(0.1)
        write_model(target)

    monkeypatch.setattr(sources, "convert_gguf", convert)
    threads = [threading.Thread(target=store.prepare, args=[gguf]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert store.check(gguf) == []
