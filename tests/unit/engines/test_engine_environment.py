"""What a spawned engine finds in its environment, and that ours is as before."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from server.engines.gpus import Gpu
from server.engines.hardware import Hardware
from server.engines.plan import plan_engine
from server.engines.spec import EngineSpec
from server.engines.vllm_engine import VllmEngine
from server.engines.vllm_process import environment
from server.errors import EngineDied

GIB = 1 << 30
GPUS = tuple(Gpu(number, "NVIDIA H100", 80 * GIB, 79 * GIB) for number in range(4))
MACHINE = Hardware("CPU", 2, (), 64 * GIB, 64 * GIB, None, (), python_h=True, c_compiler="/gcc")
SPEC = EngineSpec(
    name="m",
    model_dir=Path("/m"),
    max_model_len=1024,
    weight_bytes=GIB,
    kv_bytes_per_token=1024,
    kv_cache_bytes=GIB,
    tensor_parallel_size=2,
)
NAMES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "TORCH_COMPILE_DISABLE")


def inside(
    visible: tuple[Gpu, ...] = GPUS, devices: tuple[str, ...] | None = ("gpu1", "gpu2")
) -> list[str | None]:
    """The variables while an engine is loaded; they are put back afterwards."""
    before = [os.environ.get(name) for name in NAMES]
    plan = plan_engine(SPEC, replace(MACHINE, gpus=visible), devices=devices)
    with environment(plan):
        found = [os.environ.get(name) for name in NAMES]
    assert [os.environ.get(name) for name in NAMES] == before
    return found


def test_an_engine_sees_its_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert inside() == ["1,2", "PCI_BUS_ID", None]
    assert inside(devices=None) == [None, None, None], "where nobody has decided, all"


def test_among_those_that_the_user_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("3", "MIG-1", "GPU-2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(names))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    shown = tuple(replace(gpu, called=name) for gpu, name in zip(GPUS, names, strict=False))
    assert inside(shown) == ["MIG-1,GPU-2", "FASTEST_FIRST", None]
    assert inside(shown, devices=None) == ["3,MIG-1,GPU-2", "FASTEST_FIRST", None]


def test_what_an_engine_does_to_the_environment_ends_with_an_error() -> None:
    before = dict(os.environ)
    plan = plan_engine(SPEC, replace(MACHINE, gpus=GPUS), devices=("gpu0", "gpu3"))
    with pytest.raises(KeyError), environment(plan):
        raise KeyError
    assert dict(os.environ) == before


async def test_an_engine_is_not_started_where_others_hold_the_memory() -> None:
    plan = plan_engine(
        replace(SPEC, tensor_parallel_size=1),
        replace(MACHINE, memory_available=GIB),
        budget={"ram": 64 * GIB},
    )
    engine = VllmEngine(SPEC, plan)
    with pytest.raises(EngineDied, match=r"^'m' does not fit into what is free of this machine"):
        await engine.start()
    assert engine.pids == ()
