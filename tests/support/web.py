"""Runs programs of the packages that clients/web pins, as ``make test`` has brought them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import build_web
from server.web import STATIC

ROOT = build_web.ROOT
SOURCES = build_web.SOURCES
PACKAGES = build_web.WORK / "page" / "node_modules"
AXE = PACKAGES / "axe-core" / "axe.min.js"
BRING = "python3 -m scripts.build_web --dev"


def why_no_packages() -> str:
    """What keeps the page's own tests from being run, or ""."""
    if not build_web.has_packages(PACKAGES.parent, SOURCES, dev=True):
        return f"the packages of clients/web are not there: {BRING}"
    return ""


def why_no_page() -> str:
    """What keeps the built page from being tested, or ""."""
    if not (STATIC / "index.html").is_file():
        return f"the chat page is not built: {BRING}"
    return ""


def is_current() -> bool:
    """Whether the built page is made of the sources as they are."""
    return build_web.is_built(STATIC, build_web.digest(SOURCES))


def copy_of_sources(folder: Path) -> Path:
    """clients/web in an empty folder, its tests included, with the packages beside it."""
    shutil.copytree(
        SOURCES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
    )
    (folder / "node_modules").symlink_to(PACKAGES)
    return folder


def run_program(script: str, *arguments: str, cwd: Path) -> str:
    """Run a program of the packages, such as ``vitest/vitest.mjs``; skips where that is impossible.

    Returns:
        What it printed.

    Raises:
        AssertionError: It failed.
    """
    if reason := why_no_packages():
        pytest.skip(reason)
    node = build_web.find_node(build_web.WORK / "node").program
    done = subprocess.run(
        [str(node), str(cwd / "node_modules" / script), *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "NO_COLOR": "1", "CI": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout
