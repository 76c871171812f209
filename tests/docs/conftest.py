"""The real server, the same one that the e2e tests use."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Server, shared_server


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    return shared_server(request.config)
