"""The browser of this machine, for tests, measurements and pictures of the chat page."""

from __future__ import annotations

import os
import shutil
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "needs Chromium: apt-get install chromium, or CHROMIUM=/its/path"


def find() -> str | None:
    """Its path, or None; the variable CHROMIUM names another one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def launch_options() -> dict[str, Any]:
    """For Playwright's ``launch``. Chromium has no sandbox for root."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {"executable_path": find(), "args": sandbox}
