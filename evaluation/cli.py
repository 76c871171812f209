"""``corral eval``. It parses and calls; nothing heavy is imported before that."""

from __future__ import annotations

import typer

app = typer.Typer()
