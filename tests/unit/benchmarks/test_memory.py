"""What the measurement of memory makes of its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory
from benchmarks.errors import BenchError
from benchmarks.servers import Model

MIB = 1 << 20


def sample(phase: str, ledger: int, pss: int) -> dict[str, Any]:
    sizes = {"ledger": ledger, "pss": pss, "uss": pss - 1, "rss": pss + 1, "meter": pss}
    return {"phase": phase} | {name: size * MIB for name, size in sizes.items()}


def life(*more: dict[str, Any], missing: int = 0) -> dict[str, Any]:
    samples = [sample("load", 110, 80), sample("load", 110, 100), sample("idle", 105, 100)]
    samples += [sample("streams", 105, 98), sample("streams", 105, 102), sample("after", 105, 101)]
    return {"samples": [*samples, *more], "missing": missing}


def test_the_most_of_each_phase() -> None:
    lives = [life(), life()]
    found = memory.phases(lives)
    assert [(held.phase, held.pss // MIB, held.below) for held in found[:4]] == [
        ("load", 100, 0),
        ("idle", 100, 0),
        ("streams", 102, 0),
        ("after", 101, 0),
    ]
    rows = memory.table(found, 16)
    assert rows[1:4] == [
        ["the first time", "while it loads", "110", "100", "99", "101", "1.10"],
        ["", "loaded, nothing asked", "105", "100", "99", "101", "1.05"],
        ["", "16 answers at once", "105", "102", "101", "103", "1.03"],
    ]
    assert rows[5][0] == "once it has been measured"
    assert memory.missed(found, lives) == []


def test_what_is_missed() -> None:
    lives = [life(sample("load", 110, 111), missing=5), life(sample("streams", 120, 100))]
    assert memory.missed(memory.phases(lives), lives) == [
        "the first time, load: 1 samples above the ledger's sum",
        "once it has been measured: the ledger's sum is 1.18 times what is held, limit 1.15",
        "5 bytes did not come back",
    ]


def test_a_phase_that_nobody_saw() -> None:
    lives = [life(), {"samples": [sample("load", 2, 1)], "missing": 0}]
    with pytest.raises(BenchError, match="nothing was seen once it has been measured of the phase"):
        memory.phases(lives)


def test_a_probe_that_fails(tmp_path: Path) -> None:
    registry = tmp_path / "none.yaml"
    with pytest.raises(BenchError, match=r"(?s)the probe failed:.*none\.yaml.*does not exist"):
        memory.probe(Model("m", tmp_path, registry, tmp_path), tmp_path, 1, 60)
