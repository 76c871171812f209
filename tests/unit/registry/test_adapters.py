"""``AdapterStore``: adapters are brought whole, and what engines read does not change."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import DirectorySource, HubSource, ModelStore
from server.registry.adapter_files import digest_of
from server.registry.adapters import AdapterStore
from server.registry.sources_schema import AdapterPackageSource
from tests.support.adapters import linear_shapes, write_adapter
from tests.unit.registry.conftest import CONFIG

SHAPES = linear_shapes(CONFIG | {"intermediate_size": 96})
FILES = ("adapter_config.json", "adapter_model.safetensors")
HUB = HubSource(hub="org/lora")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "mine", SHAPES)


@pytest.fixture
def own(folder: Path) -> DirectorySource:
    return DirectorySource(directory=folder)


@pytest.fixture
def adapters(store: ModelStore) -> AdapterStore:
    return store.adapters


@pytest.fixture
def repository(hub: Any, folder: Path) -> dict[str, bytes]:
    """``org/lora`` on the hub, with files besides that are not needed."""
    files = {name: (folder / name).read_bytes() for name in FILES}
    hub.lfs.add("adapter_model.safetensors")
    hub.repos["org/lora"] = files | {"README.md": b"#", "tokenizer.json": b"{}", "x.bin": b"x"}
    return files


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_users_folder_is_copied_and_the_copy_stays(
    adapters: AdapterStore, own: DirectorySource, folder: Path, store: ModelStore
) -> None:
    assert adapters.path_if_ready(own) == adapters.prepare(own) == folder
    assert not store.cache_dir.exists()
    first = adapters.copy(own)
    assert first.directory == store.cache_dir / "adapters" / "copies" / first.digest
    assert first.digest == digest_of(folder)
    assert content(first.directory) == content(folder)
    assert first.directory.stat().st_mode & 0o777 == 0o755
    before = content(folder)
    # Written to in place, as most programs do: the copy is no second name of the same file.
    write_adapter(folder, SHAPES, seed=1)
    assert content(first.directory) == before
    second = adapters.copy(own)
    assert second.digest != first.digest
    assert content(second.directory) == content(folder)


def test_files_are_read_again_only_when_they_have_changed(
    adapters: AdapterStore, own: DirectorySource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert adapters.unchanged(own) is None
    copy = adapters.copy(own)
    assert adapters.unchanged(own) is copy
    assert adapters.copy(own) is copy
    weights = folder / "adapter_model.safetensors"
    state = weights.stat()
    weights.write_bytes(weights.read_bytes())
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))  # as some copying programs do
    assert adapters.unchanged(own) is None
    assert adapters.copy(own).digest == copy.digest
    weights.unlink()
    assert adapters.unchanged(own) is None
    with pytest.raises(SourceError, match="holds no adapter_model"):
        adapters.copy(own)


def test_a_copy_that_was_damaged_is_made_again(
    adapters: AdapterStore, own: DirectorySource
) -> None:
    copy = adapters.copy(own)
    (copy.directory / "adapter_model.safetensors").write_bytes(b"x")
    assert adapters.unchanged(own) is None
    again = adapters.copy(own)
    assert again.digest == copy.digest == digest_of(again.directory)
    (copy.directory / "adapter_config.json").unlink()
    assert digest_of(adapters.copy(own).directory) == copy.digest


def test_a_folder_that_is_written_to_meanwhile_is_not_taken(
    adapters: AdapterStore, own: DirectorySource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = adapters._copied

    def and_touched(*args: Any, **kwargs: Any) -> Any:
        found = copied(*args, **kwargs)
        os.utime(folder / "adapter_config.json", ns=(1, 1))
        return found

    monkeypatch.setattr(adapters, "_copied", and_touched)
    with pytest.raises(SourceError, match="changed while it was read"):
        adapters.copy(own)
    assert adapters.unchanged(own) is None


def test_copies_that_nobody_asks_for_go_after_a_week(
    adapters: AdapterStore, own: DirectorySource, folder: Path
) -> None:
    old, kept = adapters.copy(own), None
    for seed in (1, 2):
        write_adapter(folder, SHAPES, seed=seed)
        kept = kept or adapters.copy(own)
    week_ago = time.time() - 8 * 86_400
    os.utime(old.directory, (week_ago, week_ago))
    newest = adapters.copy(own)
    assert kept is not None
    there = {path.name for path in newest.directory.parent.iterdir()}
    assert there == {kept.digest, newest.digest}


def test_a_copy_in_use_is_not_forgotten(adapters: AdapterStore, own: DirectorySource) -> None:
    copy = adapters.copy(own)
    os.utime(copy.directory, (1, 1))
    AdapterStore(copy.directory.parents[1]).copy(own)  # another server, on the same cache
    assert time.time() - copy.directory.stat().st_mtime < 100


def test_from_the_hub_two_files_are_fetched_once(
    hub: Any, repository: dict[str, bytes], adapters: AdapterStore, store: ModelStore
) -> None:
    assert adapters.path_if_ready(HUB) is None
    path = adapters.prepare(HUB)
    assert path == store.cache_dir / "adapters" / HUB.key == adapters.fetched_to(HUB)
    assert content(path).keys() == {*FILES, "corral-manifest.json"}
    assert {name: content(path)[name] for name in FILES} == repository
    downloads = len(hub.downloads)
    copy = adapters.copy(HUB)
    assert content(copy.directory) == repository
    # Fetched files are never written to: the copy takes no room.
    weights = "adapter_model.safetensors"
    assert (copy.directory / weights).samefile(path / weights)
    assert adapters.unchanged(HUB) is copy
    assert len(hub.downloads) == downloads
    assert adapters.check(HUB) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["config.json", "model.safetensors"], "org/lora holds no adapter_config.json, so it is no "
         "LoRA adapter. It is a whole model; give it an entry with 'source'."),
        (["adapter_config.json", "adapter_model.bin"], "org/lora holds its weights as a pickle "
         "(adapter_model.bin), which can run code when it is read. "),
        (["adapter_config.json"], "org/lora holds no adapter_model.safetensors."),
    ],
)  # fmt: skip
def test_repositories_that_hold_no_adapter(
    hub: Any, adapters: AdapterStore, files: list[str], message: str
) -> None:
    hub.repos["org/lora"] = dict.fromkeys(files, b"{}")
    with pytest.raises(SourceError) as caught:
        adapters.prepare(HUB)
    assert str(caught.value).startswith(message)
    assert adapters.path_if_ready(HUB) is None


def test_an_adapter_that_is_not_served_is_not_kept(
    hub: Any, repository: dict[str, bytes], adapters: AdapterStore
) -> None:
    hub.repos["org/lora"] = repository | {"adapter_config.json": b'{"r": 8, "use_dora": true}'}
    with pytest.raises(SourceError, match="uses DoRA"):
        adapters.prepare(HUB)
    assert adapters.path_if_ready(HUB) is None


def test_fetched_files_are_checked_and_removed(
    hub: Any, repository: dict[str, bytes], adapters: AdapterStore
) -> None:
    copy = adapters.copy(HUB)
    fetched = adapters.fetched_to(HUB)
    config = fetched / "adapter_config.json"
    before = config.read_bytes()
    config.write_bytes(before.replace(b"16", b"17"))
    (problem,) = adapters.check(HUB)
    assert problem.startswith("adapter_config.json has changed: its SHA-256 is not ")
    config.write_bytes(before)
    assert adapters.remove(HUB) is True
    assert not fetched.exists()
    assert not copy.directory.exists()
    assert adapters.remove(HUB) is False
    assert adapters.check(HUB) == [f"{fetched} has no manifest; fetch the adapter again"]


def test_a_users_folder_is_never_removed(
    adapters: AdapterStore, own: DirectorySource, folder: Path
) -> None:
    copy = adapters.copy(own)
    assert adapters.remove(own) is False
    assert not copy.directory.exists()
    assert content(folder).keys() == set(FILES)
    assert adapters.check(own) == []
    (folder / "adapter_model.safetensors").write_bytes(b"")
    (problem,) = adapters.check(own)
    assert problem.endswith("is not a safetensors file, or only a part of one")


def test_from_a_wheel_both_files_are_taken(
    adapters: AdapterStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with zipfile.ZipFile(index / "tiny_lora-1.0-py3-none-any.whl", "w") as archive:
        for name in FILES:
            archive.write(folder / name, f"tiny_lora/data/{name}")
        metadata = "Metadata-Version: 2.1\nName: tiny-lora\nVersion: 1.0\n"
        archive.writestr("tiny_lora-1.0.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_lora-1.0.dist-info/WHEEL", tags)
        archive.writestr("tiny_lora-1.0.dist-info/RECORD", "")
    file = "tiny_lora/data/adapter_model.safetensors"
    source = AdapterPackageSource(package="tiny-lora", version="1.0", file=file)
    assert adapters.copy(source).digest == digest_of(folder)
    elsewhere = source.model_copy(update={"file": "x/adapter_model.safetensors"})
    with pytest.raises(SourceError, match=r"has no file x/adapter_config\.json\. It holds tiny_l"):
        adapters.prepare(elsewhere)


def test_threads_and_servers_that_copy_at_once_get_the_same(
    own: DirectorySource, store: ModelStore
) -> None:
    found: list[Path] = []

    def copy() -> None:
        found.append(AdapterStore(store.cache_dir / "adapters").copy(own).directory)

    threads = [threading.Thread(target=copy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert {*found} == {found[0]}
    assert [path.name for path in found[0].parent.iterdir()] == [found[0].name]
