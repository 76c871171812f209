"""Runs programs with Node and the packages that clients/node pins."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, clean_environment

NODE = ROOT / "clients" / "node"
_INSTALL = ("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")


@functools.cache
def why_not() -> str:
    """What keeps Node's packages from being used, or ""; brings them where npm is there."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if (NODE / "node_modules" / ".package-lock.json").is_file():
        return ""
    try:
        done = subprocess.run(
            _INSTALL, cwd=NODE, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(_INSTALL)} in clients/node took too long"
    last = (done.stderr.strip().splitlines() or [""])[0]
    return f"npm cannot bring the packages of clients/node: {last}" if done.returncode else ""


def run_tests(script: str, url: str, key: str = "none", **environment: str | Path) -> str:
    """Run a file of tests/node against a server; skips the test where that is impossible.

    Args:
        script: Its name.
        url: The server's address, without ``/v1``.
        key: The API key.
        environment: Further variables.

    Returns:
        What it printed.

    Raises:
        AssertionError: A test of it failed.
    """
    if reason := why_not():
        pytest.skip(reason)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(ROOT / "tests" / "node" / script)],
        cwd=ROOT,
        env=clean_environment()
        | {"PATH": os.environ["PATH"], "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}
        | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout
