"""A storage in a file of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from server.storage import Storage


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/corral.db"


@pytest.fixture
async def storage(url: str) -> AsyncGenerator[Storage, None]:
    storage = Storage(url)
    yield storage
    await storage.database.close()
