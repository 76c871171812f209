"""The commands that operate a running server. They parse and call; no logic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from server.settings import read_settings

if TYPE_CHECKING:
    from server.commands.running import RunningServer

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The server [CORRAL_URL, else that of CORRAL_HOST and _PORT]."
    ),
]
AdminKey = Annotated[
    str | None, typer.Option("--admin-key", metavar="KEY", help="Better set CORRAL_ADMIN_KEY.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]
Model = Annotated[str, typer.Argument(metavar="ID", help="Model id or alias.")]


def _server(url: str | None, admin_key: str | None) -> RunningServer:
    settings = read_settings(url=url, admin_key=admin_key)
    from server.commands.running import RunningServer

    return RunningServer(settings)


def ps(url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show what the models of a running server are doing."""
    server = _server(url, admin_key)
    from server.commands.ps import show_engines as run

    run(server, as_json=as_json)


def load(
    model: Model, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Load a model of a running server; returns when it is ready."""
    server = _server(url, admin_key)
    from server.commands.operate import load as run

    run(server, model, as_json=as_json)


def unload(
    model: Model, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Unload a model of a running server, once what runs there has finished."""
    _tell("unload", model, url, admin_key, as_json)


def restart(
    model: Model, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Unload a model of a running server, and load it again."""
    _tell("restart", model, url, admin_key, as_json)


def logs(
    model: Model,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many, from the end.")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on.")
    ] = False,
    previous: Annotated[
        bool, typer.Option("--previous", help="Of the engine before the present one.")
    ] = False,
    url: Url = None,
    admin_key: AdminKey = None,
) -> None:
    """Show the log of a model's engine."""
    server = _server(url, admin_key)
    from server.commands.operate import show_log as run

    try:
        run(server, model, lines, follow=follow, previous=previous)
    except KeyboardInterrupt:  # how one leaves a log that is followed
        raise typer.Exit(130) from None


def models_add(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML or JSON; - reads stdin.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of an added one of the same id.")
    ] = False,
    url: Url = None,
    admin_key: AdminKey = None,
) -> None:
    """Have a running server serve another model or adapter, also after its restart."""
    server = _server(url, admin_key)
    from server.commands.operate import add as run

    run(server, file, typer.get_text_stream("stdin"), replace=replace)


def models_forget(
    ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    url: Url = None,
    admin_key: AdminKey = None,
) -> None:
    """Have a running server no longer serve models that were added to it."""
    server = _server(url, admin_key)
    from server.commands.operate import forget as run

    run(server, ids)


def models_reload(url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Have a running server read its registry file again."""
    server = _server(url, admin_key)
    from server.commands.operate import reload as run

    run(server, as_json=as_json)


def models_pin(
    model: Model, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Have a running server keep a model loaded, until it ends."""
    _tell("pin", model, url, admin_key, as_json)


def models_unpin(
    model: Model, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Let a running server unload a model that was pinned."""
    _tell("unpin", model, url, admin_key, as_json)


def _tell(action: str, model: str, url: str | None, admin_key: str | None, as_json: bool) -> None:
    server = _server(url, admin_key)
    from server.commands.operate import tell as run

    run(server, model, action, as_json=as_json)


def add_to(app: typer.Typer, models: typer.Typer) -> None:
    """Make the commands known, the second group below ``corral models``."""
    app.command()(ps)
    app.command()(load)
    app.command()(unload)
    app.command()(restart)
    app.command()(logs)
    models.command("add")(models_add)
    models.command("forget")(models_forget)
    models.command("reload")(models_reload)
    models.command("pin")(models_pin)
    models.command("unpin")(models_unpin)
