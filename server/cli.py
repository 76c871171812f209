"""``corral``: the command line. It parses, calls, and maps errors to exit codes; no logic.

Exit codes: 0 done, 1 something is wrong with what was looked at, 2 wrong usage or a bad setting,
65 wrong input, 69 port taken, no engine or no server, 73 a folder cannot be written, 77 no
permission, 78 wrong configuration, 130 Ctrl-C.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from server import __version__, cli_running
from server.cli_extensions import ExtensibleGroup
from server.console import board, err, out
from server.errors import CorralError, InvalidRequest, ModelNotFound, RegistryError
from server.settings import SettingsError, read_settings


class _Corral(ExtensibleGroup):
    """Says what went wrong in plain words, whichever command it was."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CorralError as error:
            _show(error)
            raise typer.Exit(_exit_code(error)) from None
        finally:
            board.close()


app = typer.Typer(
    cls=_Corral,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="One OpenAI endpoint, a herd of LLaMAs.",
)
models = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The registry's models and their files."
)
app.add_typer(models, name="models")

# Text, whatever the setting's type: the settings themselves say what is wrong with a value.
Registry = Annotated[
    str | None, typer.Option(metavar="PATH", help="Registry file [./model_registry.yaml].")
]
CacheDir = Annotated[
    str | None, typer.Option(metavar="PATH", help="Where model files are kept [~/.cache/corral].")
]
Host = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Address to listen on [127.0.0.1].")
]
Port = Annotated[
    str | None, typer.Option(metavar="N", help="Port to listen on [8000]; 0 takes a free one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def corral(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """One OpenAI endpoint, a herd of LLaMAs.

    Settings come from flags, else CORRAL_* variables, else .env, else their defaults.
    """


@app.command()
def serve(  # noqa: PLR0913 - one a flag
    host: Host = None,
    port: Port = None,
    registry: Registry = None,
    cache_dir: CacheDir = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where responses, conversations and chats are kept: sqlite:///PATH or "
            "postgresql://... "
            "[a file in ~/.local/share/corral].",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEYS",
            help="Accepted keys, comma-separated; 'auto' makes one. Others on this machine can "
            "see it in the process list: better set CORRAL_API_KEY.",
        ),
    ] = None,
    allow_no_key: Annotated[
        bool | None,
        typer.Option("--allow-no-key", help="Listen beyond this machine without any key."),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEYS",
            help="Keys that open /admin, comma-separated; 'auto' makes one. Better set "
            "CORRAL_ADMIN_KEY.",
        ),
    ] = None,
    watch: Annotated[
        bool | None,
        typer.Option(
            "--watch/--no-watch", help="Read the registry file again when it has changed [watch]."
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error [info].")
    ] = None,
    drain_seconds: Annotated[
        str | None,
        typer.Option(metavar="S", help="Longest that answers may go on at the end [30]."),
    ] = None,
) -> None:
    """Serve the registry's models.

    Ends with 0 after SIGTERM and with 130 after Ctrl-C; answers under way may finish first.
    """
    settings = read_settings(**locals())
    from server.serve import serve as run

    run(settings)


@app.command()
def render(
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="ID", help="Model id or alias.")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Show the prompt's token ids too.")] = False,
    as_json: AsJson = False,
    registry: Registry = None,
    cache_dir: CacheDir = None,
) -> None:
    """Show the exact prompt of a conversation: corral render --model ID < messages.json

    Reads a JSON list of messages, or a whole chat request. The prompt alone goes to stdout, all
    about it to stderr.
    """
    settings = read_settings(registry=registry, cache_dir=cache_dir)
    from server.commands.render import render as run

    run(settings, model, typer.get_text_stream("stdin"), ids=ids, as_json=as_json)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the versions of Corral, its engine, torch and Python."""
    from server.commands.version import version as run

    run(as_json=as_json)


@app.command()
def doctor(
    host: Host = None,
    port: Port = None,
    registry: Registry = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine, and say what keeps it from serving."""
    settings = read_settings(host=host, port=port, registry=registry, cache_dir=cache_dir)
    from server.commands.doctor_screen import doctor as run

    raise typer.Exit(run(settings, as_json=as_json))


@models.command("list")
def models_list(
    registry: Registry = None, cache_dir: CacheDir = None, as_json: AsJson = False
) -> None:
    """List every model, and whether its files are here."""
    from server.commands.models import list_models as run

    run(read_settings(registry=registry, cache_dir=cache_dir), as_json=as_json)


@models.command("show")
def models_show(
    model: Annotated[str, typer.Argument(metavar="ID")],
    registry: Registry = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show everything about one model."""
    from server.commands.models import show_model as run

    run(read_settings(registry=registry, cache_dir=cache_dir), model, as_json=as_json)


@models.command("fetch")
def models_fetch(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model.")] = False,
    registry: Registry = None,
    cache_dir: CacheDir = None,
) -> None:
    """Bring models' files to this machine."""
    from server.commands.models import fetch_models as run

    if bool(ids) == everything:
        raise typer.BadParameter("name the models to fetch, or pass --all")
    run(read_settings(registry=registry, cache_dir=cache_dir), ids or None)


@models.command("remove")
def models_remove(
    ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    registry: Registry = None,
    cache_dir: CacheDir = None,
) -> None:
    """Delete models' fetched files; folders of your own are never touched."""
    from server.commands.models import remove_models as run

    run(read_settings(registry=registry, cache_dir=cache_dir), ids)


@models.command("check")
def models_check(registry: Registry = None, cache_dir: CacheDir = None) -> None:
    """Check the registry and every file that is here; exit 1 if something is wrong."""
    from server.commands.models_check import check_models as run

    raise typer.Exit(run(read_settings(registry=registry, cache_dir=cache_dir)))


@models.command("plan")
def models_plan(
    host: Host = None,
    port: Port = None,
    registry: Registry = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what each model takes of this machine, and which fit together; exit 1 if one never does.

    Starts nothing. A Corral that runs on the port counts as if it did not.
    """
    settings = read_settings(host=host, port=port, registry=registry, cache_dir=cache_dir)
    from server.commands.models_plan import plan_models as run

    raise typer.Exit(run(settings, as_json=as_json))


@models.command("schema")
def models_schema() -> None:
    """Print the registry's JSON Schema, for editors."""
    from server.commands.models import print_schema as run

    run()


cli_running.add_to(app, models)


def _show(error: CorralError) -> None:
    if isinstance(error, RegistryError):
        count = len(error.problems)
        counted = "a problem" if count == 1 else f"{count} problems"
        err.print(Text(f"corral: the registry has {counted}:", style="red"), soft_wrap=True)
        for problem in error.problems:
            err.print(Text(f"  {problem}"), soft_wrap=True)
        return
    for line in _words(error).splitlines():
        err.print(Text.assemble(("corral: ", "red"), line), soft_wrap=True)


def _words(error: CorralError) -> str:
    if isinstance(error, ModelNotFound):
        return f"The registry has no model '{error.model}'; 'corral models list' shows what it has."
    if isinstance(error, InvalidRequest) and error.param and error.param not in str(error):
        return f"{error.param}: {error}"
    return str(error)


def _exit_code(error: CorralError) -> int:
    match error:
        case SettingsError():
            return 2
        case InvalidRequest():
            return 65
        case RegistryError():
            return 78
        case _:
            # Errors of `corral serve` carry their own; its module is not imported for the others.
            return int(getattr(error, "exit_code", 1))


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
