"""Data sets are brought from where models are: a folder, a hub, a Python package."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from server.errors import SourceError
from server.registry import NullProgress
from tests.support.pip import only_folder
from tests.unit.registry.support_hub import COMMIT, FakeHub
from training.data.sources import DataStore, DirectoryData, HubData, PackageData

ROWS = json.dumps([{"instruction": "x", "output": "y"}]).encode()
SHA256 = hashlib.sha256(ROWS).hexdigest()
PROJECT = b"""\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = b"""\
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    place = Path(folder) / "rows-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\\nName: rows\\nVersion: 1.0\\n")
    return place.name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise SystemExit("nobody builds this")
"""


def files(source: Any, cache: Path) -> list[Path]:
    return [*DataStore(cache).files(source, NullProgress())]


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    for name in ("b.jsonl", "a.json", "notes.pdf", "more/c.parquet"):
        (folder / name).write_text("")
    source = DirectoryData(directory=folder)
    assert files(source, tmp_path) == [folder / "a.json", folder / "b.jsonl"]
    below = DirectoryData(directory=folder, files="**/*.parquet")
    assert files(below, tmp_path) == [folder / "more" / "c.parquet"]
    with pytest.raises(SourceError, match=r"holds no file of rows that matches '\*\.txt'"):
        files(DirectoryData(directory=folder, files="*.txt"), tmp_path)
    with pytest.raises(SourceError, match="nowhere does not exist"):
        files(DirectoryData(directory=tmp_path / "nowhere"), tmp_path)


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source distribution of ``rows`` 1.0 in a folder that is all pip knows."""
    index = tmp_path / "index"
    only_folder(monkeypatch, index)
    content = {"pyproject.toml": PROJECT, "backend.py": BACKEND, "data/rows.json": ROWS}
    content["PKG-INFO"] = b"Metadata-Version: 2.1\nName: rows\nVersion: 1.0\n"
    with tarfile.open(index / "rows-1.0.tar.gz", "w:gz") as archive:
        for name, text in content.items():
            member = tarfile.TarInfo(f"rows-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return index / "rows-1.0.tar.gz"


def package(**fields: Any) -> PackageData:
    known = {"package": "rows", "version": "1.0", "file": "data/rows.json", "sdist": True}
    return PackageData.model_validate(known | {"sha256": SHA256} | fields)


def test_a_file_out_of_a_source_distribution(sdist: Path, tmp_path: Path) -> None:
    (path,) = files(package(), tmp_path / "cache")
    assert path.read_bytes() == ROWS
    sdist.unlink()
    assert files(package(), tmp_path / "cache") == [path]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "0" * 64}, "is not the file that was asked for: its SHA-256 is"),
        ({"file": "data/none.json"}, "The source distribution of rows 1.0 has no file data/none"),
        ({"sdist": False}, "pip finds no wheel of rows 1.0"),
        ({"version": "2.0"}, "pip finds no source distribution of rows 2.0"),
    ],
)
def test_packages_that_do_not_hold_it(
    fields: dict[str, Any], message: str, sdist: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message):
        files(package(**fields), tmp_path / "cache")


def test_a_data_set_of_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub()
    try:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos["org/rows"] = {
            "data/train-0.json": ROWS,
            "data/test-0.json": b"[]",
            "README.md": b"rows",
        }
        source = HubData(hub="org/rows", files="data/train-*.json")
        (path,) = files(source, tmp_path)
        assert path.read_bytes() == ROWS
        assert [name for name, _ in hub.downloads] == ["data/train-0.json"]
        manifest = json.loads((path.parents[1] / "corral-manifest.json").read_text())
        assert manifest["resolved"] == {"commit": COMMIT}
        with pytest.raises(SourceError, match=r"org/rows holds no file that matches '\*\.parquet'"):
            files(HubData(hub="org/rows", files="*.parquet"), tmp_path)
        with pytest.raises(SourceError, match="org/none was not found on the hub"):
            files(HubData(hub="org/none"), tmp_path)
    finally:
        hub.close()


def test_keys_tell_sources_apart() -> None:
    keys = {
        package().key,
        package(sdist=False).key,
        package(file="data/other.json").key,
        HubData(hub="a/b").key,
        HubData(hub="a/b", files="*.json").key,
    }
    assert len(keys) == 5
