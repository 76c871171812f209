"""Commands that other packages bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Corral = Callable[..., Result]

BROUGHT = """
from __future__ import annotations
import typer

app = typer.Typer()

@app.command()
def greet(name: str) -> None:
    '''Say hello to somebody.'''
    typer.echo(f"Hello, {name}!")
"""


@pytest.fixture(autouse=True)
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed in the way pip does it."""
    (tmp_path / "brought_along.py").write_text(BROUGHT)
    (tmp_path / "never_imported.py").write_text("raise SystemExit('imported')")
    metadata = tmp_path / "brought_along-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-along\nVersion: 1.0\n")
    points = [
        "greet = brought_along:app",
        "halved = half_there:app",
        "version = never_imported:app",
    ]
    (tmp_path / "half_there.py").write_text("import nowhere_to_be_found")
    (metadata / "entry_points.txt").write_text("\n".join(["[corral.commands]", *points]))
    monkeypatch.syspath_prepend(tmp_path)


def test_it_is_called_like_any_other(corral: Corral) -> None:
    assert corral("greet", "llama").stdout == "Hello, llama!\n"
    assert corral("greet").exit_code == 2


def test_help_lists_it(corral: Corral) -> None:
    (line,) = [line for line in corral("--help").stdout.splitlines() if "greet" in line]
    assert line.split(maxsplit=1) == ["greet", "Say hello to somebody."]


def test_own_commands_cannot_be_replaced(corral: Corral) -> None:
    assert corral("version").stdout.startswith("corral  ")


def test_names_nobody_brings(corral: Corral) -> None:
    result = corral("sing")
    assert result.exit_code == 2
    assert "No such command 'sing'" in result.stderr


def test_one_that_cannot_be_imported_spoils_nothing(corral: Corral) -> None:
    result = corral("halved", "--loud")
    assert result.exit_code == 69
    assert "not installed in full: No module named 'nowhere_to_be_found'" in result.stderr
    assert corral("--help").exit_code == 0
