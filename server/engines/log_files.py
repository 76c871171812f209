"""Where engines log, for those who write there and those who read."""

from __future__ import annotations

from pathlib import Path


def engine_log(folder: Path, name: str) -> Path:
    """The log file of the engine of this name."""
    return folder / f"engine-{name.replace('/', '_')}.log"


def previous_log(path: Path) -> Path:
    """What the engine before the present one said."""
    return path.with_suffix(".previous.log")
