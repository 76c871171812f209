"""``ModelStore``: whole or not there, one builder at a time, and clear words when it fails.

The GGUF converter is replaced by one that copies a tiny model; ``test_convert`` has the real one.
"""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import DirectorySource, HubSource, ModelStore, default_cache_dir, sources
from server.registry.manifest import MANIFEST

Write = Callable[..., Path]
Usage = namedtuple("Usage", "total used free")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def gguf(tmp_path: Path) -> DirectorySource:
    """A folder with nothing but a GGUF file."""
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF")
    return DirectorySource(directory=folder)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, write_model: Write) -> list[Path]:
    """Replaces the converter; lists what it was asked to convert."""
    asked: list[Path] = []

    def convert(source: Path, target: Path, _scratch: Path, _progress: Any) -> None:
        asked.append(source)
        write_model(target)

    monkeypatch.setattr(sources, "convert_gguf", convert)
    return asked


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "cache")


def leftovers(store: ModelStore) -> list[str]:
    root = store.cache_dir / "models"
    return sorted(p.name for p in root.glob(".*") if p.name != ".locks") if root.exists() else []


def test_the_cache_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == Path("/home/someone/.cache/corral")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert default_cache_dir() == Path("/var/cache/corral")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == Path("/home/someone/.cache/corral")


def test_a_users_own_folder_is_served_where_it_is(
    tmp_path: Path, store: ModelStore, write_model: Write
) -> None:
    source = DirectorySource(directory=write_model(tmp_path / "mine"))
    assert store.path_if_ready(source) == tmp_path / "mine"
    assert store.prepare(source) == tmp_path / "mine"
    assert store.check(source) == []
    assert store.remove(source) is False
    assert store.prepare(source) == tmp_path / "mine"
    assert not store.cache_dir.exists()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"")
    (problem,) = store.check(source)
    assert problem.endswith("is not a safetensors file, or only a part of one")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "The model folder {} does not exist."),
        ([], "The model folder {} has no config.json and no weights (*.safetensors)."),
        (["config.json"], "The model folder {} has no weights (*.safetensors)."),
        (
            ["a.gguf", "b.gguf"],
            (
                "The model folder {} holds several GGUF files (a.gguf, b.gguf); put the one to "
                "serve into a folder of its own."
            ),
        ),
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            (
                "The model folder {} has no config.json. It holds an adapter; merge it into its "
                "base model first."
            ),
        ),
    ],
)
def test_folders_that_are_no_model(
    tmp_path: Path, store: ModelStore, files: list[str] | None, message: str
) -> None:
    folder = tmp_path / "mine"
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).write_bytes(b"{}")
    source = DirectorySource(directory=folder)
    assert store.path_if_ready(source) is None
    with pytest.raises(SourceError) as caught:
        store.prepare(source)
    assert str(caught.value) == message.format(folder)
    (problem,) = store.check(source)
    assert str(folder) in problem


def test_a_file_is_no_model_folder(tmp_path: Path, store: ModelStore) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="is not a folder"):
        store.prepare(DirectorySource(directory=tmp_path / "file"))


def test_a_gguf_is_converted_once_and_again_when_it_changes(
    gguf: DirectorySource, conversions: list[Path], store: ModelStore, recorder: Any
) -> None:
    assert store.path_if_ready(gguf) is None
    path = store.prepare(gguf, recorder)
    assert path.parent == store.cache_dir / "models"
    assert store.path_if_ready(gguf) == store.prepare(gguf) == path
    assert recorder.stages[-1][0] == "checksums"
    assert recorder.done[-1] == recorder.stages[-1][1]
    assert conversions == [gguf.directory / "model.gguf"]
    assert list(gguf.directory.iterdir()) == [gguf.directory / "model.gguf"]
    (gguf.directory / "model.gguf").write_bytes(b"GGUF, but another")
    assert store.path_if_ready(gguf) is None
    (problem,) = store.check(gguf)
    assert problem.endswith(f"was made from what {gguf} held before; fetch the model again")
    assert store.prepare(gguf) == path
    assert len(conversions) == 2
    assert leftovers(store) == []


def test_the_manifest_lists_everything(
    gguf: DirectorySource, conversions: list[Path], store: ModelStore
) -> None:
    path = store.prepare(gguf)
    manifest = json.loads((path / MANIFEST).read_text())
    assert sorted(manifest["files"]) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert manifest["files"]["tokenizer.json"] == {
        "size": 2,
        "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    }
    assert manifest["source"]["directory"] == str(gguf.directory)
    assert manifest["resolved"] == {"converted_from": "model.gguf"}


def test_damage_is_found_and_mended(
    gguf: DirectorySource, conversions: list[Path], store: ModelStore, recorder: Any
) -> None:
    path = store.prepare(gguf)
    assert store.check(gguf, recorder) == []
    weights = path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (path / "stray.json").write_text("{}")
    assert store.path_if_ready(gguf) == path  # the cheap check compares sizes alone
    changed, stray = store.check(gguf)
    assert changed.startswith("model.safetensors has changed: its SHA-256 is not ")
    assert stray == "stray.json does not belong to the model"
    weights.write_bytes(content[:-1])
    assert store.path_if_ready(gguf) is None
    (path / "config.json").unlink()
    missing, short, stray = store.check(gguf)
    assert missing == "config.json is missing"
    assert short == f"model.safetensors has {len(content) - 1} bytes instead of {len(content)}"
    store.prepare(gguf)
    assert store.check(gguf) == []
    assert leftovers(store) == []


def test_a_model_without_a_manifest_is_none(
    gguf: DirectorySource, conversions: list[Path], store: ModelStore
) -> None:
    path = store.prepare(gguf)
    for content in (None, b"", b"{}", b'{"version": 1, "source": {}, "files": []}'):
        (path / MANIFEST).unlink(missing_ok=True)
        if content is not None:
            (path / MANIFEST).write_bytes(content)
        assert store.path_if_ready(gguf) is None
    assert store.check(gguf) == [f"{path} has no manifest; fetch the model again"]


def test_remove(gguf: DirectorySource, conversions: list[Path], store: ModelStore) -> None:
    assert store.remove(gguf) is False
    path = store.prepare(gguf)
    assert store.remove(gguf) is True
    assert not path.exists()
    assert store.check(gguf) == [f"{gguf.directory} has not been fetched"]
    assert (gguf.directory / "model.gguf").exists()
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space"),
            "Not enough disk space in {root} for {source}. Free some, or ",
        ),
        (OSError(errno.EROFS, "Read-only"), "is on a read-only file system, so {source} cannot"),
        (OSError(errno.EIO, "I/O error"), "Preparing {source} in "),
        (PermissionError(errno.EACCES, "No"), "No permission to use "),
        (SourceError("its own words"), "its own words"),
    ],
)
def test_a_failure_leaves_nothing(
    gguf: DirectorySource,
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    message: str,
) -> None:
    def fail(_source: Path, target: Path, *_rest: Any) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise failure

    monkeypatch.setattr(sources, "convert_gguf", fail)
    with pytest.raises(SourceError) as caught:
        store.prepare(gguf)
    assert message.format(source=gguf, root=store.cache_dir / "models") in str(caught.value)
    assert store.path_if_ready(gguf) is None
    assert leftovers(store) == []
    assert not (store.cache_dir / "models" / gguf.key).exists()


def test_a_result_that_cannot_be_served_is_not_kept(
    gguf: DirectorySource, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "convert_gguf", lambda _source, target, *_rest: target.mkdir())
    with pytest.raises(SourceError, match=r"cannot be served: .*config\.json does not exist"):
        store.prepare(gguf)
    assert store.path_if_ready(gguf) is None


def test_too_little_space_is_seen_beforehand(
    hub: Any, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9, 1000))
    with pytest.raises(SourceError) as caught:
        store.prepare(HubSource(hub="org/tiny"))
    needed = sum(map(len, hub.repos["org/tiny"].values()))
    assert str(caught.value) == (
        f"Not enough disk space in {store.cache_dir / 'models'} for org/tiny (main). It needs "
        f"{needed / 1000:.1f} kB ({needed} bytes); 1.0 kB are free. Free some, or point "
        "CORRAL_CACHE_DIR at a larger disk."
    )
    assert hub.downloads == []


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


def test_files_are_readable_by_others(
    gguf: DirectorySource,
    store: ModelStore,
    write_model: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def convert(_source: Path, target: Path, *_rest: Any) -> None:
        (write_model(target) / "model.safetensors").chmod(0o600)

    monkeypatch.setattr(sources, "convert_gguf", convert)
    path = store.prepare(gguf)
    assert (path / "model.safetensors").stat().st_mode & 0o777 == 0o644
