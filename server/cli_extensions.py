"""Commands that packages beside the server bring, such as ``corral eval``.

A package names each in its metadata as an entry point of the group ``corral.commands``: the name is
the command's, the value a `typer.Typer`. Nothing of a package is imported before its command is
called or listed, and the server knows none of them by name.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import typer
from typer.core import TyperGroup

GROUP = "corral.commands"


class ExtensibleGroup(TyperGroup):
    """A group whose own commands come first and hide others' of the same name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Its own commands' names, then those of others, sorted."""
        own = super().list_commands(ctx)
        return [*own, *sorted(importlib.metadata.entry_points(group=GROUP).names - {*own})]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None if nobody brings it."""
        # Looking for others' takes a while, so it is done where there is no own one.
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        for point in importlib.metadata.entry_points(group=GROUP, name=cmd_name):
            command = typer.main.get_command(_load(point))
            command.name = cmd_name
            return command
        return None


def _load(point: importlib.metadata.EntryPoint) -> typer.Typer:
    """What a package brings, or where it cannot be imported a command that says so: the others, and
    the list of all, must not go with it."""
    try:
        app = point.load()
    except ImportError as error:
        return _unusable(f"It is not installed in full: {error}")
    assert isinstance(app, typer.Typer), point
    return app


def _unusable(why: str) -> typer.Typer:
    app = typer.Typer()

    @app.command(
        help=why, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
    )
    def say() -> None:
        typer.echo(f"corral: {why}", err=True)
        raise typer.Exit(69)

    return app
