"""``corral``: the command line. Thin: it parses, calls, prints, and maps errors to exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from server import __version__
from server.console import err, out
from server.errors import CorralError
from server.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One OpenAI endpoint, a herd of LLaMAs.",
)


def _settings(**flags: Any) -> Settings:
    return Settings(**{name: value for name, value in flags.items() if value is not None})


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [8000].")] = None,
    registry: Annotated[Path | None, typer.Option(help="Registry file.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Accepted keys; 'auto' makes one.")] = None,
    allow_no_key: Annotated[bool | None, typer.Option("--allow-no-key")] = None,
) -> None:
    """Serve the registry's models."""
    from server.serve import ServeError
    from server.serve import serve as run

    settings = _settings(
        host=host, port=port, registry=registry, api_key=api_key, allow_no_key=allow_no_key
    )
    try:
        raise typer.Exit(run(settings))
    except ServeError as error:
        err.print(f"[red]{error}[/]", soft_wrap=True)
        raise typer.Exit(error.exit_code) from None


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except CorralError as error:
        err.print(f"[red]{error}[/]", soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
