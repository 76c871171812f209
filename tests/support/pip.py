"""pip without a network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def only_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have pip know the packages in a folder and no others."""
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
