"""Adapters in the flat step: nothing for rows without one, else what merged weights give."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.e2e.steps import FLAT, VLLM, real_model, run
from tests.support.adapters import LINEARS, linear_shapes, write_adapter

pytestmark = pytest.mark.e2e

# Two prompts without an adapter and two with each, in one batch: prefill and decode are mixed.
LENGTHS = [3, 60, 40, 129, 70, 17]
USED = [None, 0, 1, 0, None, 1]
WITHOUT = [place for place, number in enumerate(USED) if number is None]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model() -> Path:
    return real_model()


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("adapters")
    shapes = linear_shapes(json.loads((model / "config.json").read_text()))
    # Strong ones: what they add is told apart from rounding with ease. The second's rank differs
    # from layer to layer and is less than there is room for.
    return [
        str(write_adapter(folder / "qv", shapes, rank=8, seed=1, strength=1.5)),
        str(write_adapter(folder / "all", shapes, rank=12, targets=LINEARS, seed=2, strength=0.5)),
    ]


def options(adapters: list[str], **fields: Any) -> str:
    return json.dumps({"lengths": LENGTHS, "used": USED, "adapters": adapters} | fields)


def differences(one: Rows, other: Rows, *, with_adapters: bool = True) -> list[float]:
    """Between the prompts' log-probabilities, of the rows that have an adapter or of the others."""
    return [
        abs(a - b)
        for place, (left, right) in enumerate(zip(one, other, strict=True))
        if (USED[place] is not None) is with_adapters
        for a, b in zip(left["prompt"], right["prompt"], strict=True)
    ]


@pytest.mark.timeout(1000)
def test_rows_of_adapters_get_what_merged_weights_give(model: Path, adapters: list[str]) -> None:
    merged = run("merged_logprobs.py", model, options(adapters))
    exact = run("flat_step_logprobs.py", model, FLAT, options(adapters, dtype="float32"))
    assert all(row["flat"] for row in exact)
    base = run("merged_logprobs.py", model, options(adapters, used=[None] * 6))
    assert mean(differences(merged, base)) > 0.5, "the adapters change something"
    # Sums in another order, nothing else.
    assert max(differences(merged, exact)) < 0.01
    assert max(differences(merged, exact, with_adapters=False)) < 0.01


@pytest.mark.timeout(1500)
def test_rows_without_an_adapter_are_bit_for_bit_those_of_an_engine_without_any(
    model: Path, adapters: list[str]
) -> None:
    flat = run("flat_step_logprobs.py", model, FLAT, options(adapters))
    plain = run("flat_step_logprobs.py", model, FLAT, options([], used=[None] * 6))
    unused = run("flat_step_logprobs.py", model, FLAT, options(adapters, used=[None] * 6))
    assert all(row["flat"] for row in (*flat, *plain, *unused))
    assert [flat[place] for place in WITHOUT] == [plain[place] for place in WITHOUT]
    assert unused == plain
    # vLLM's own layers compute the same for adapters, but for rounding, as without.
    modules = run("flat_step_logprobs.py", model, VLLM, options(adapters))
    assert not any(row["flat"] for row in modules)
    assert mean(differences(flat, modules)) < 0.2
    assert max(differences(flat, modules)) < 3.0
    assert mean(differences(flat, plain)) > 0.5
