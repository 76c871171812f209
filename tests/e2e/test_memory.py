"""What the ledger counts for an engine against what its processes hold, from load to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory
from benchmarks.servers import Model
from tests.e2e.harness import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
MIB = 1 << 20
STREAMS = 16
WORKER = Path(__file__).with_name("worker_memory.py")


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two lives of the shipped model's engine: counted by estimate, and by what the first took."""
    model = Model.prepare(ROOT / "model_registry.yaml")
    return memory.probe(model, tmp_path_factory.mktemp("memory"), STREAMS, timeout_s=580)


def test_the_sum_is_right_at_every_moment(lives: list[dict[str, Any]]) -> None:
    """Never less than is held, and little more while all streams run."""
    found = memory.phases(lives)
    for row in memory.table(found, STREAMS):
        print(" | ".join(row))  # noqa: T201 - the figures, for whoever looks
    assert memory.missed(found, lives) == []
    for life in lives:
        assert len(life["samples"]) > 20
        for sample in life["samples"]:
            assert sample["pss"] <= sample["ledger"], sample
    # The second time it is known what it takes.
    assert lives[1]["need"]["resident"] <= lives[0]["need"]["resident"]
    assert lives[1]["held"] == pytest.approx(lives[0]["held"], rel=0.03)
    assert lives[1]["need"]["peak"] == pytest.approx(lives[1]["held"], rel=0.03)


def test_the_kv_cache_is_there_at_once_and_use_adds_little(lives: list[dict[str, Any]]) -> None:
    for life in lives:
        of = {
            phase: max(sample["uss"] for sample in life["samples"] if sample["phase"] == phase)
            for phase in ("load", "idle", "streams")
        }
        assert of["idle"] > life["need"]["kv_cache"] + life["need"]["weights"]
        assert of["streams"] - of["idle"] < life["need"]["headroom"]
        # Loading takes no second copy of the weights.
        assert of["load"] - of["idle"] < life["need"]["weights"] // 4


def test_the_meter_says_the_same_without_asking_for_every_page(
    lives: list[dict[str, Any]],
) -> None:
    for life in lives:
        loaded = [sample for sample in life["samples"] if sample["phase"] != "load"]
        for sample in loaded:
            # What is shared gets less while it loads, and was asked for some seconds ago.
            assert sample["meter"] == pytest.approx(sample["pss"], abs=128 * MIB)


@pytest.fixture(scope="module")
def worker() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(WORKER)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_weights_are_let_go_while_they_are_read(worker: dict[str, Any]) -> None:
    """And they are what is in the file, also where somebody holds on to them."""
    assert worker["wrong"] == []
    assert worker["plain"] > worker["size"] * 0.95, "what vLLM alone would hold"
    assert worker["let go"] < worker["size"] * 0.1
    assert worker["eager"] > worker["size"] * 0.95, "nothing of a heap is let go"


def test_embeddings_are_packed_only_where_they_are_the_head_too(worker: dict[str, Any]) -> None:
    assert worker["dropped"] == {
        "own head": ["embeddings"],
        "embeddings as head": [],
        "no head": [],
    }
