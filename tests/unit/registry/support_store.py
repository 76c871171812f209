"""What the tests of ``ModelStore`` share."""

from __future__ import annotations

from server.registry import ModelStore


def leftovers(store: ModelStore) -> list[str]:
    """What is in the cache besides finished models and locks."""
    root = store.cache_dir / "models"
    return sorted(p.name for p in root.glob(".*") if p.name != ".locks") if root.exists() else []
