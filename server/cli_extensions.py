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
            app = point.load()
            assert isinstance(app, typer.Typer), point
            command = typer.main.get_command(app)
            command.name = cmd_name
            return command
        return None
