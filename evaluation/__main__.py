"""``python -m evaluation``: the same as ``corral eval``."""

from __future__ import annotations

from evaluation.cli import app

app()
