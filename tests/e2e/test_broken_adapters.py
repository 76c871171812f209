"""Adapters that break after they were checked: an error of theirs, and an engine that goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.steps import real_model, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

EXPECTED = {
    "cut off": "invalid header",
    "garbage": "header",
    "no weights": "doesn't contain tensors",
    "no folder": "No adapter found for",
    "no json": "Expecting property name",
    "too wide": "must match the size of tensor",
    "too wide in the last layer": "must match the size of tensor",
    "too large a rank": "LoRA rank 64 is greater than max_lora_rank 16",
    "other modules": "expected target modules",
    "DoRA": "vLLM does not yet support DoRA",
    "modules_to_save": "modules_to_save",
    "bias": "Adapter bias is not supported",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    scratch = tmp_path_factory.mktemp("broken")
    found: dict[str, Any] = run("broken_adapters.py", real_model(), scratch)
    return found


# What the engine takes, and answers rubbish with: that adapter's requests alone.
SWALLOWED = ("no numbers", "huge numbers")


def test_every_damage_was_tried(report: dict[str, Any]) -> None:
    assert report.keys() == {*EXPECTED, *SWALLOWED}


@pytest.mark.parametrize("damage", SWALLOWED)
def test_rubbish_stays_where_it_is(report: dict[str, Any], damage: str) -> None:
    assert report[damage] == {"error": None, "well": True}


@pytest.mark.parametrize("damage", EXPECTED)
def test_a_damage_is_one_adapters_error(report: dict[str, Any], damage: str) -> None:
    error = report[damage]["error"]
    assert error is not None
    assert error.startswith(f"The adapter of '{damage}' cannot be used: ")
    assert EXPECTED[damage] in error
    assert report[damage]["well"], "base and the good adapter answer as before, by the same engine"
