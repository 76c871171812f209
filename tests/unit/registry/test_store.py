"""``ModelStore``: what is there is whole, of this source, and as it was made.

The GGUF converter is replaced by one that copies a tiny model; ``test_convert`` has the real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import DirectorySource, HubSource, ModelStore, default_cache_dir, sources
from server.registry.manifest import MANIFEST
from tests.unit.registry.support_store import leftovers

Write = Callable[..., Path]


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
                "The model folder {} has no config.json. It holds an adapter: give it an entry "
                "with 'base' and 'adapter' instead of 'source'."
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


def test_a_new_converter_converts_again(
    gguf: DirectorySource,
    conversions: list[Path],
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = store.prepare(gguf)
    monkeypatch.setattr(sources, "CONVERTER_VERSION", sources.CONVERTER_VERSION + 1)
    assert store.path_if_ready(gguf) is None
    assert store.check(gguf) == [f"{path} was made by another converter; fetch the model again"]
    assert store.prepare(gguf) == path
    assert len(conversions) == 2
    assert store.check(gguf) == []
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["source"]["converter"] == sources.CONVERTER_VERSION


def test_what_is_not_converted_does_not_know_the_converter(
    hub: Any, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HubSource(hub="org/tiny")
    path = store.prepare(source)
    monkeypatch.setattr(sources, "CONVERTER_VERSION", sources.CONVERTER_VERSION + 1)
    assert store.path_if_ready(source) == path


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
