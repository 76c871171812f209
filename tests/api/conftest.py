"""A ranch and its client for every test of the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.admin import Farm
from tests.support.messages import thinking_ranch
from tests.support.page import arrive
from tests.support.ranch import Ranch, in_process, write_tiny_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def make_ranch(model_directory: Path, tmp_path: Path) -> Callable[..., Ranch]:
    """Makes a ranch; arguments as for `Ranch`."""

    def make(*args: Any, **options: Any) -> Ranch:
        return Ranch(model_directory, tmp_path / "cache", *args, **options)

    return make


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/corral.db"


@pytest.fixture
def keeping(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    """A ranch with a database."""
    return make_ranch(database_url=database_url)


@pytest.fixture
async def visitor(keeping: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A browser that has the chat page's cookie."""
    async with in_process(keeping) as client:
        yield await arrive(client)


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch]) -> Ranch:
    return make_ranch()


@pytest.fixture
async def client(ranch: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with in_process(ranch) as client:
        yield client


@pytest.fixture
def thinker(tmp_path: Path) -> Ranch:
    """A ranch with a model that reasons and calls tools."""
    return thinking_ranch(tmp_path)


@pytest.fixture
async def thinking(thinker: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with in_process(thinker) as client:
        yield client


@pytest.fixture
def farm(model_directory: Path, tmp_path: Path) -> Farm:
    return Farm(tmp_path, model_directory)
