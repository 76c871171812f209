"""The flat LLaMA step computes what vLLM's own modules compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from server.registry.loader import load_registry
from server.registry.sources import ModelStore, default_cache_dir

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("flat_step_logprobs.py")

pytestmark = pytest.mark.e2e


def logprobs(model_dir: Path, worker: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model_dir), worker],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


@pytest.mark.timeout(500)
def test_same_log_probabilities_as_the_modules() -> None:
    cache = Path(os.environ.get("CORRAL_CACHE_DIR") or default_cache_dir())
    source = load_registry(ROOT / "model_registry.yaml").models[0].source
    model_dir = ModelStore(cache).prepare(source)
    plain = logprobs(model_dir, "vllm.v1.worker.cpu_worker.CPUWorker")
    flat = logprobs(model_dir, "server.engines.cpu_worker.CorralCPUWorker")
    assert [row["flat"] for row in plain] == [False] * len(plain)
    assert [row["flat"] for row in flat] == [True] * len(flat)
    differences = []
    for expected, got in zip(plain, flat, strict=True):
        pairs = zip(expected["prompt"], got["prompt"], strict=True)
        differences += [abs(a - b) for a, b in pairs]
        assert got["greedy"][0] == pytest.approx(expected["greedy"][0], abs=0.3)
    # bfloat16 logits lie 0.125 apart at this size, and which way they are rounded depends on the
    # processor: 0.06 to 0.1 were seen, a single one of 1.1. A wrong kernel call is off by nats.
    assert mean(differences) < 0.2
    assert max(differences) < 2.0
