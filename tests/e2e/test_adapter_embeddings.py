"""Vectors of an adapter, by the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from openai import OpenAI

from tests.e2e.harness import ROOT, a_server, clean_environment
from tests.e2e.steps import real_model
from tests.support.adapters import LINEARS, linear_shapes, write_adapter

pytestmark = pytest.mark.timeout(300)
TEXTS = ["The cat sleeps on the sofa.", "Quarterly tax returns are due in April."]


def reference(*arguments: str) -> list[list[float]]:
    """As transformers computes them: its tokenizer, its model, the last token's state."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.reference_embedding", *arguments],
        cwd=ROOT,
        env=clean_environment() | {"TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_vectors_of_an_adapter_are_those_of_merged_weights(tmp_path: Path) -> None:
    model = real_model()
    shapes = linear_shapes(json.loads((model / "config.json").read_text()))
    folder = write_adapter(tmp_path / "lora", shapes, targets=LINEARS, strength=0.5)
    base = {"id": "base", "kind": "embedding", "source": {"directory": str(model)}}
    lora = {"id": "lora", "base": "base", "adapter": {"directory": str(folder)}}
    path = tmp_path / "model_registry.yaml"
    short = {"context": {"length": 512}}
    exact = {"engine": {"dtype": "float32"}}
    path.write_text(yaml.safe_dump({"models": [base | short | exact, lora | short]}))
    with a_server("--registry", str(path)) as server:
        url = server.wait_ready().url + "/v1"
        with OpenAI(base_url=url, api_key="none", timeout=60, max_retries=0) as client:
            got = {
                name: [
                    item.embedding
                    for item in client.embeddings.create(model=name, input=TEXTS).data
                ]
                for name in ("base", "lora")
            }
    question = (str(model), "last", json.dumps(TEXTS))
    for name, expected in (
        ("base", reference(*question)),
        ("lora", reference(*question, str(folder))),
    ):
        for ours, theirs in zip(got[name], expected, strict=True):
            assert sum(a * b for a, b in zip(ours, theirs, strict=True)) == pytest.approx(
                1, abs=1e-4
            )
    apart = [
        sum(a * b for a, b in zip(*pair, strict=True)) for pair in zip(*got.values(), strict=True)
    ]
    assert max(apart) < 0.99, "the adapter changes something"
