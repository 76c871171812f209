"""The built package: what `pip install corral` puts in place."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import server

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of a copy of the checkout, so that no build folder is left in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "server", copy / "server", ignore=shutil.ignore_patterns("__pycache__"))
    registry = ROOT / "model_registry.yaml"
    (copy / registry.name).write_bytes(registry.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(copy / "out"), str(copy)], check=True)
    (built,) = (copy / "out").iterdir()
    return zipfile.ZipFile(built)


def test_its_version_is_the_servers(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert f"\nVersion: {server.__version__}\n" in wheel.read(metadata).decode()


def test_it_carries_the_registry_beside_the_code(wheel: zipfile.ZipFile) -> None:
    expected = (ROOT / "model_registry.yaml").read_bytes()
    assert wheel.read("server/model_registry.yaml") == expected


def test_it_carries_every_template(wheel: zipfile.ZipFile) -> None:
    templates = [path.relative_to(ROOT) for path in (ROOT / "server").rglob("*.jinja")]
    assert {str(path) for path in templates} <= set(wheel.namelist())


def test_it_carries_every_migration(wheel: zipfile.ZipFile) -> None:
    folder = ROOT / "server" / "storage" / "migrations"
    files = [path.relative_to(ROOT) for path in folder.rglob("*.*") if path.suffix != ".pyc"]
    assert len(files) >= 4
    assert {str(path) for path in files} <= set(wheel.namelist())


def test_it_holds_the_server_alone(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"server"}


def test_it_has_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "corral = server.cli:main" in wheel.read(entry).decode()
