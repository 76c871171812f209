"""The built package: what `pip install corral` puts in place."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import server
from server.prompts.catalog import FORMATS
from server.registry.adapters import AdapterStore
from server.registry.loader import load_registry
from tests.support.page import write_page
from tests.unit.setup.support_page import has_node, write_project

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {"server", "evaluation", "training"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of a copy of the checkout, so that no build folder is left in it.

    Its page is a stand-in; where there is no Node.js, it has none.
    """
    copy = tmp_path_factory.mktemp("checkout")
    copy_checkout(copy)
    if has_node():
        for name in ("build_web.py", "pip_run.py"):
            (copy / "scripts").mkdir(exist_ok=True)
            shutil.copy(ROOT / "scripts" / name, copy / "scripts")
        write_project(copy / "clients" / "web")
    return make_wheel(copy)


def copy_checkout(copy: Path) -> None:
    """What a package is made of, without the page."""
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, copy)
    left_out = shutil.ignore_patterns("__pycache__", "static", ".building-*")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=left_out)
    for folder in ("adapters", "recipes"):
        shutil.copytree(ROOT / folder, copy / folder)
    registry = ROOT / "model_registry.yaml"
    (copy / registry.name).write_bytes(registry.read_bytes())


def make_wheel(checkout: Path) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # Without the tests' own path: what a build imports lies in its checkout.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    made = [*command, "--wheel-dir", str(checkout / "out"), str(checkout)]
    subprocess.run(made, check=True, env=env)
    (built,) = (checkout / "out").iterdir()
    return zipfile.ZipFile(built)


def test_its_version_is_the_servers(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert f"\nVersion: {server.__version__}\n" in wheel.read(metadata).decode()


def test_it_carries_the_registry_beside_the_code(wheel: zipfile.ZipFile) -> None:
    expected = (ROOT / "model_registry.yaml").read_bytes()
    assert wheel.read("server/model_registry.yaml") == expected


def test_it_carries_the_adapters_that_the_registry_names(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)
    registry = load_registry(tmp_path / "server" / "model_registry.yaml", known_templates=FORMATS)
    adapters = [entry.adapter for entry in registry.models if entry.adapter is not None]
    assert len(adapters) == 1
    for adapter in adapters:
        assert AdapterStore(tmp_path / "cache").copy(adapter).info.rank == 8


def test_it_carries_every_recipe(wheel: zipfile.ZipFile) -> None:
    recipes = [*(ROOT / "recipes").rglob("*.yaml")]
    assert len(recipes) == 8
    for path in recipes:
        assert wheel.read(f"training/{path.relative_to(ROOT)}") == path.read_bytes()


def test_it_carries_every_template(wheel: zipfile.ZipFile) -> None:
    templates = [path.relative_to(ROOT) for path in (ROOT / "server").rglob("*.jinja")]
    assert {str(path) for path in templates} <= set(wheel.namelist())


def test_it_carries_the_evaluations_files(wheel: zipfile.ZipFile) -> None:
    folders = (ROOT / "evaluation" / name for name in ("tasks", "templates"))
    files = {str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir()}
    assert len(files) >= 20
    assert files <= set(wheel.namelist())


def test_it_carries_every_migration(wheel: zipfile.ZipFile) -> None:
    folder = ROOT / "server" / "storage" / "migrations"
    files = [path.relative_to(ROOT) for path in folder.rglob("*.*") if path.suffix != ".pyc"]
    assert len(files) >= 4
    assert {str(path) for path in files} <= set(wheel.namelist())


@pytest.mark.skipif(not has_node(), reason="needs Node.js and npm")
def test_it_carries_the_page(wheel: zipfile.ZipFile) -> None:
    below = "server/web/static/"
    files = {name.removeprefix(below) for name in wheel.namelist() if name.startswith(below)}
    assert files == {
        "index.html",
        "assets/font-x2.woff2",
        "assets/index-x1.js",
        "assets/index-x1.js.br",
        "assets/index-x1.js.gz",
    }
    assert wheel.read(f"{below}index.html") == b"A page. "


def test_a_page_that_was_built_before_is_packed(tmp_path: Path) -> None:
    # As in an image, and where a source distribution is installed: no sources, no Node.js.
    copy_checkout(tmp_path)
    write_page(tmp_path / "server" / "web" / "static")
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", "dist"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    names = make_wheel(unpacked).namelist()
    assert "server/web/static/index.html" in names
    assert "server/web/static/assets/index-x1.js.br" in names
    assert "server/web/static/.stamp" not in names


def test_it_holds_what_is_ours_alone(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_it_has_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(entry).decode()
    assert "corral = server.cli:main" in text
    commands = "eval = evaluation.cli:app\ntrain = training.cli:app\n"
    assert f"[corral.commands]\n{commands}" in text
