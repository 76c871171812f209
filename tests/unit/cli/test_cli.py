"""The command line itself."""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError

import pytest
from click.testing import Result

from server import __version__, cli
from server.commands.builds import find_builds

Corral = Callable[..., Result]


def test_version(corral: Corral) -> None:
    lines = corral("version").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["corral", "engine", "torch", "python"]
    assert lines[0] == f"corral  {__version__}"
    assert json.loads(corral("version", "--json").stdout)["corral"] == __version__
    assert corral("--version").stdout == f"{__version__}\n"


def test_a_machine_without_an_engine() -> None:
    def lookup(name: str) -> str:
        raise PackageNotFoundError(name)

    builds = find_builds(lookup)
    assert (builds.engine, builds.torch, builds.companions) == ("none", None, {})


def test_every_command_has_help(corral: Corral) -> None:
    for command in ("serve", "render", "version", "doctor"):
        assert corral(command, "--help").exit_code == 0
    for command in ("list", "show", "fetch", "remove", "check", "schema"):
        assert corral("models", command, "--help").exit_code == 0


@pytest.mark.parametrize("args", [("sing",), ("serve", "--loud"), ("models", "show")])
def test_wrong_usage_ends_with_2(corral: Corral, args: tuple[str, ...]) -> None:
    result = corral(*args)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_ctrl_c_ends_with_130(corral: Corral, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "read_settings", interrupt)
    assert corral("models", "list").exit_code == 130
