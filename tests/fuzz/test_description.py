"""The API's description and what the server does, held together by schemathesis.

Thousands of requests, right and wrong ones, are made of ``/openapi.json``: no answer may be a
server's error, or another than is described. `scripts/fuzz-api.sh` asks a real engine the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.support.messages import thinking_ranch
from tests.support.ranch import Ranch, listening
from tests.support.talkative import everything

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-corral-fuzz"
VECTORS = {"id": "vectors", "kind": "embedding", "context": {"length": 16}}
# Every path and method of the description.
OPERATIONS = 25

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def ranch(tmp_path: Path) -> Ranch:
    """Every kind of model, a key and a database."""
    url = f"sqlite:///{tmp_path}/corral.db"
    ranch = thinking_ranch(tmp_path, VECTORS, keys=[KEY], database_url=url)
    ranch.script = everything
    return ranch


@pytest.fixture
async def url(ranch: Ranch) -> AsyncGenerator[str, None]:
    async with listening(ranch) as url:
        yield url


async def schemathesis(url: str, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """A run's report, and what it printed."""
    report = folder / "report.json"
    settings = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY, "EXAMPLES": "4"}
    process = await asyncio.create_subprocess_exec(
        *(ROOT / "scripts" / "fuzz-api.sh", "--no-color", *options),
        *("--report", "json", "--report-json-path", report),
        env=os.environ | settings | {"PYTHON": sys.executable},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return json.loads(report.read_text()), output.decode()


async def test_the_server_is_as_described(url: str, tmp_path: Path) -> None:
    report, output = await schemathesis(url, tmp_path)
    assert report["exit_code"] == 0, output
    assert report["complete"], output
    assert (report["failures"], report["errors"]) == ([], [])
    assert report["operations"]["tested"] == OPERATIONS
    ran = {name for name, phase in report["phases"].items() if phase["status"] == "success"}
    assert ran == {"coverage", "fuzzing", "stateful"}
    assert report["test_cases"]["generated"] >= 5000
    # Most good requests are obeyed, so that it is not only refusals that are compared.
    for name, rates in report["valid_rates"].items():
        total = sum(rates["coverage"].values())
        if total >= 50:
            assert rates["coverage"]["accepted"] > 0.6 * total, (name, rates)


async def test_what_is_not_as_described_is_found(
    url: str, ranch: Ranch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.health.__version__", 1)
    report, _ = await schemathesis(url, tmp_path, "--include-path", "/version")
    assert report["exit_code"] == 1
    assert [failure["title"] for failure in report["failures"]] == ["Response violates schema"]
