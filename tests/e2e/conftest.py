"""The real server, once for all e2e tests, and the official SDK pointed at it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.harness import Server, shared_output, shared_server

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (output := shared_output(item.config)):
        report.sections.append(("the shared server's output", output))
    return report


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    return shared_server(request.config)


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[OpenAI]:
    # No retries: a test must see each failure.
    with OpenAI(base_url=server.url + "/v1", api_key="none", timeout=120, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: Server) -> AsyncGenerator[AsyncOpenAI, None]:
    async with AsyncOpenAI(
        base_url=server.url + "/v1", api_key="none", timeout=120, max_retries=0
    ) as client:
        yield client


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    """For what the SDK does not show: raw events, headers, other endpoints."""
    with httpx.Client(base_url=server.url, timeout=120) as http:
        yield http
