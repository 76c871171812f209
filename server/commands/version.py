"""``corral version``."""

from __future__ import annotations

import json

from server.commands.builds import find_builds
from server.console import out


def version(*, as_json: bool) -> None:
    """Print what is installed."""
    builds = find_builds()
    if as_json:
        value = {
            "corral": builds.corral,
            "engines": builds.engines,
            "torch": builds.torch,
            "python": builds.python,
        }
        out.print_json(json.dumps(value)) if out.is_terminal else out.print(json.dumps(value))
        return
    rows = [
        ("corral", builds.corral),
        ("engine", builds.engine),
        ("torch", builds.torch or "none"),
        ("python", f"{builds.python} ({builds.executable})"),
    ]
    for name, value_ in rows:
        out.print(f"{name:<8}{value_}", markup=False)
