"""``corral load``, ``unload``, ``restart``, ``logs`` and what changes a running registry."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml
from rich.text import Text

from server.commands.models import print_json
from server.commands.ps import doing, duration
from server.commands.running import RunningServer
from server.console import StageLine, err, out
from server.errors import CorralError, InvalidRequest

_LOOK_EVERY_S = 0.5
# An engine that is unloaded in so many looks in a row was not just between two states.
_GIVEN_UP_LOOKS = 2


class LoadFailed(CorralError):
    """A model was not loaded."""


def load(server: RunningServer, model: str, *, as_json: bool) -> None:
    """Load a model, saying what is done meanwhile; returns when it is ready.

    Raises:
        LoadFailed: It cannot be loaded, or somebody unloaded it.
        CorralError: See `RunningServer.post`.
    """
    began = time.monotonic()
    engine = server.post(f"/admin/models/{model}/load", wait=False)
    line = StageLine(model)
    idle_looks = 0
    try:
        while engine["status"] != "ready":
            idle = engine["status"] == "unloaded" and not engine["requests"]["waiting"]
            idle_looks = idle_looks + 1 if idle else 0
            if engine["status"] == "failed" or idle_looks >= _GIVEN_UP_LOOKS:
                raise LoadFailed(f"{model}: {engine['detail'] or 'it was unloaded meanwhile'}")
            line.show(doing(engine) or engine["status"], time.monotonic())
            time.sleep(_LOOK_EVERY_S)
            engine = server.get(f"/admin/models/{model}")
    finally:
        line.end()
    _told(engine, f"{model}: ready after {duration(time.monotonic() - began)}", as_json)


def tell(server: RunningServer, model: str, action: str, *, as_json: bool) -> None:
    """Have something done to a model; returns when it is done.

    Raises:
        CorralError: See `RunningServer.post`.
    """
    engine = server.post(f"/admin/models/{model}/{action}", waits=True)
    if action in ("pin", "unpin"):
        said = "pinned" if engine["pinned"] else "no longer pinned"
    else:
        said = engine["status"]
    _told(engine, f"{model}: {said}", as_json)


def show_log(
    server: RunningServer, model: str, lines: int, *, follow: bool, previous: bool
) -> None:
    """Print the last lines of an engine's log, and with ``follow`` what comes after them.

    Raises:
        CorralError: See `RunningServer.stream`.
    """
    blocks = server.stream(
        f"/admin/models/{model}/logs", lines=lines, follow=follow, previous=previous
    )
    for block in blocks:
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def reload(server: RunningServer, *, as_json: bool) -> None:
    """Have the registry file read again, and say what it changed.

    Raises:
        CorralError: See `RunningServer.post`; names every mistake of the file.
    """
    changes = server.post("/admin/reload", waits=True)
    if as_json:
        print_json(changes)
        return
    kinds = ("added", "removed", "changed")
    said = [f"{kind}: {', '.join(changes[kind])}" for kind in kinds if changes[kind]]
    for line in said or ["nothing has changed"]:
        out.print(line, markup=False)
    for entry in changes["shadowed"]:
        err.print(Text(f"{entry['id']} is set aside: {entry['reason']}"), soft_wrap=True)


def add(server: RunningServer, file: str, stdin: TextIO, *, replace: bool) -> None:
    """Have the entries of a file served, which stand there as in a registry or one by itself.

    Args:
        file: YAML or JSON; ``-`` reads ``stdin``. Relative directories start at its folder.

    Raises:
        InvalidRequest: It cannot be read, or holds no entries.
        CorralError: See `RunningServer.post`.
    """
    folder = Path.cwd() if file == "-" else Path(file).absolute().parent
    for entry in _entries(_read(file, stdin)):
        server.post(
            "/admin/models",
            {name: _absolute(value, folder) for name, value in entry.items()},
            waits=True,
            replace=replace,
        )
        out.print(f"{entry.get('id')}: added", markup=False)


def forget(server: RunningServer, models: Iterable[str]) -> None:
    """Have added models served no longer.

    Raises:
        CorralError: See `RunningServer.delete`.
    """
    for model in models:
        server.delete(f"/admin/models/{model}")
        out.print(f"{model}: forgotten", markup=False)


def _told(engine: Mapping[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(engine)
    else:
        out.print(text, markup=False)


def _read(file: str, stdin: TextIO) -> str:
    try:
        return stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}") from None


def _entries(text: str) -> Sequence[Mapping[str, Any]]:
    try:
        found = yaml.safe_load(text)
        json.dumps(found, allow_nan=False)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise InvalidRequest(f"That is no entry of a registry: {error}") from None
    if isinstance(found, dict):
        found = found.get("models", [found])
    if not isinstance(found, list) or not found or not all(isinstance(e, dict) for e in found):
        raise InvalidRequest(
            "That is no entry of a registry: it must be a mapping with 'id' and what else stands "
            "for a model there, or 'models' with several."
        )
    return found


def _absolute(value: Any, folder: Path) -> Any:
    """A source whose directory is found wherever the server runs."""
    if isinstance(value, dict) and isinstance(value.get("directory"), str):
        directory = Path(value["directory"]).expanduser()
        return value | {"directory": str(folder / directory)}
    return value
