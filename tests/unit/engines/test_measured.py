"""What is remembered of engines that were loaded before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from server.engines import measured
from server.engines.gpus import Gpu
from server.engines.hardware import Hardware
from server.engines.ledger import Need
from server.engines.measured import Measured, about
from server.engines.need import FORKED_BYTES, MIB, Rest
from server.engines.plan import plan_engine
from server.engines.spec import EngineSpec

MACHINE = Hardware("CPU", 2, (), 64 << 30, 64 << 30, None, ())
NEED = Need(weights=100, kv_cache=200, adapters=30, overhead=50, about="a")


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1234")
    (folder / "notes.txt").write_text("one")
    return EngineSpec(
        name="m",
        model_dir=folder,
        max_model_len=128,
        weight_bytes=MIB,
        kv_bytes_per_token=1024,
        extra={"seed": 1},
    )


def test_ready_and_most(tmp_path: Path) -> None:
    known = Measured(tmp_path / "measured")
    assert known.rest("a") is None
    assert known.note(NEED, 370, ready=True) == Rest(40, 40)
    assert known.note(NEED, 390) == Rest(40, 60)
    assert known.note(NEED, 380) == Rest(40, 60)
    # Loaded again: what it holds now, and what it once held.
    assert known.note(NEED, 360, ready=True) == Rest(30, 60)
    assert Measured(tmp_path / "measured").rest("a") == Rest(30, 60), "it is in the file"
    assert known.note(NEED, 7, ready=True) == Rest(0, 60), "less than was reckoned is nothing"
    assert [path.name for path in (tmp_path / "measured").iterdir()] == ["a.json"]
    assert known.note(replace(NEED, about=""), 370) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"ready": 1}', '{"ready": -1, "most": 2}', '{"ready": true, "most": 2}'],
)
def test_a_damaged_file_is_as_good_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    known = Measured(tmp_path)
    with capture_logs() as logged:
        assert known.rest("a") is None
    assert [entry["event"] for entry in logged] == ["a measurement cannot be read"]
    assert known.note(NEED, 370, ready=True) == Rest(40, 40)
    assert json.loads((tmp_path / "a.json").read_text()) == {"ready": 40, "most": 40}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = Measured(tmp_path / "file" / "measured")
    with capture_logs() as logged:
        assert known.note(NEED, 370, ready=True) == Rest(40, 40)
    assert [entry["event"] for entry in logged] == [
        "a measurement cannot be read",
        "a measurement cannot be kept",
    ]


def test_what_engines_are_remembered_by(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    first = about(spec, MACHINE)
    same: list[dict[str, Any]] = [
        {"name": "other"},
        {"kv_cache_bytes": 7},
        {"kv_cache_tokens": 7},
        {"gpu_memory_utilization": 0.5},
    ]
    assert {about(replace(spec, **fields), MACHINE) for fields in same} == {first}
    others: list[dict[str, Any]] = [
        {"max_model_len": 256},
        {"dtype": "float32"},
        {"max_num_seqs": 3},
        {"compile": True},
        {"extra": {"seed": 2}},
        {"tensor_parallel_size": 2},
    ]
    names = {about(replace(spec, **fields), MACHINE) for fields in others}
    names |= {
        about(spec, replace(MACHINE, cores=3)),
        about(spec, replace(MACHINE, cpu_model="B")),
        about(spec, replace(MACHINE, gpus=(Gpu(0, "A", 1, 1),))),
        about(spec, replace(MACHINE, gpus=(Gpu(0, "B", 1, 1),))),
    }
    monkeypatch.setattr(measured, "__version__", "0")
    names.add(about(spec, MACHINE))
    assert len(names) == len(others) + 5
    assert first not in names


def test_another_model_is_another_one(spec: EngineSpec) -> None:
    first = about(spec, MACHINE)
    (spec.model_dir / "notes.txt").write_text("two")
    assert about(spec, MACHINE) == first
    (spec.model_dir / "model.safetensors").write_bytes(b"12345")
    second = about(spec, MACHINE)
    (spec.model_dir / "config.json").write_text('{"a": 1}')
    assert len({first, second, about(spec, MACHINE)}) == 3
    assert about(replace(spec, model_dir=spec.model_dir / "none"), MACHINE) != first


def test_the_next_plan_takes_what_was_measured(spec: EngineSpec, tmp_path: Path) -> None:
    known = Measured(tmp_path / "measured")
    first = plan_engine(spec, MACHINE, known=known).need
    assert first.overhead == FORKED_BYTES + first.headroom
    known.note(first, first.weights + first.kv_cache + 300 * MIB, ready=True)
    second = plan_engine(spec, MACHINE, known=known).need
    assert second.overhead == 300 * MIB + first.headroom
    assert (second.kv_cache, second.weights) == (first.kv_cache, first.weights)
    known.note(second, first.weights + first.kv_cache + 900 * MIB)
    assert plan_engine(spec, MACHINE, known=known).need.overhead == 900 * MIB
    assert plan_engine(spec, MACHINE).need == first, "without it, as reckoned"
