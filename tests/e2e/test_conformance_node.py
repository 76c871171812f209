"""Every feature through Node's official SDK, which must see what Python's sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.e2e.harness import ALPACA, CAPITAL, DIALOGUE, INSTRUCT, PARIS, RAW, Server
from tests.support.feature import WEATHER
from tests.support.features import FEATURES
from tests.support.node import run_tests
from tests.support.refusals import REFUSALS
from tests.support.summaries import whole

pytestmark = pytest.mark.timeout(900)


def cases() -> dict[str, Any]:
    """What tests/node/sdk.mjs reads."""
    return {
        "model": INSTRUCT,
        "models": [INSTRUCT, RAW, DIALOGUE, ALPACA],
        "question": CAPITAL,
        "paris": PARIS,
        "weather": WEATHER,
        "features": [
            {"id": one.id, "api": one.api, "fields": one.request | dict(one.extra)}
            for one in FEATURES
        ],
        "refusals": [
            {"id": one.id, "api": one.api, "fields": one.request}
            | {"error": one.error, "code": one.code, "param": one.param}
            for one in REFUSALS
        ],
    }


def test_node_is_answered_as_python_is(server: Server, client: OpenAI, tmp_path: Path) -> None:
    table, results = tmp_path / "cases.json", tmp_path / "results.json"
    table.write_text(json.dumps(cases()), encoding="utf-8")
    run_tests("conformance.test.mjs", server.url, CASES=table, RESULTS=results)
    summaries = json.loads(results.read_text("utf-8"))
    assert summaries == {feature.id: whole(client, feature) for feature in FEATURES}
