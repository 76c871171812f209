"""A PostgreSQL of our own, where one is installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

INSTALLED = bool(shutil.which("initdb") and shutil.which("postgres") and find_spec("asyncpg"))


def usable() -> bool:
    """Whether one can be run: it refuses to be root's."""
    if not INSTALLED or os.geteuid() != 0:
        return INSTALLED
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam("postgres"))
    return False


@contextlib.contextmanager
def a_cluster() -> Iterator[str]:
    """A running server; yields the URL of its only database."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="corral-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    init = ["initdb", "-D", str(data), "-U", "corral", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(init, user=user, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["postgres", "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    command += ["-c", "fsync=off", "-k", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, stdout=log, stderr=log)
    try:
        _wait(port)
        yield f"postgresql://corral@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(0.3)
            return
        time.sleep(0.05)
    raise AssertionError("PostgreSQL did not come up")
