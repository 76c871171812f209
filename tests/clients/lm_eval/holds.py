"""A metric: whether an answer holds the word that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def holds(row: Mapping[str, str], answers: Sequence[str]) -> dict[str, float]:
    """1 or 0 for one row."""
    return {"holds": float(row["answer"].lower() in answers[0].lower())}
