from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.engines.base import EngineSpec
from server.engines.hardware import Gpu, Hardware
from server.engines.plan import CPU_KV_MAX_SEQUENCES, GIB, UNIPROC, EnginePlan, plan_engine
from server.errors import EngineDied

MIB = 1 << 20
KV = 1 << 14  # 16 KiB a token: a context of 8,064 tokens and a block of 128 take 128 MiB
CONTEXT = 8192 - 128
KV_CACHE = CPU_KV_MAX_SEQUENCES * 128 * MIB
GPU = Gpu(0, "NVIDIA H100", 80 * GIB, 79 * GIB)


def spec(**fields: Any) -> EngineSpec:
    basics = {
        "name": "m",
        "model_dir": Path("/models/m"),
        "max_model_len": CONTEXT,
        "weight_bytes": GIB,
        "kv_bytes_per_token": KV,
    }
    return EngineSpec(**basics | fields)


def machine(memory: int = 16 * GIB, gpus: int = 0, compiler: str | None = None) -> Hardware:
    return Hardware(
        cpu_model="",
        cores=6,
        isa=(),
        memory_total=memory,
        memory_available=memory,
        compiler=compiler,
        gpus=(GPU,) * gpus,
    )


def shown(plan: EnginePlan) -> dict[str, tuple[str, str]]:
    return {choice.name: (choice.value, choice.reason) for choice in plan.choices}


def test_a_cpu() -> None:
    plan = plan_engine(spec(), machine())
    assert (plan.device, plan.threads, plan.compile) == ("cpu", 6, False)
    assert plan.start_method == "forkserver"
    assert plan.engine_args == {
        "model": "/models/m",
        "served_model_name": "m",
        "max_model_len": CONTEXT,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "shutdown_timeout": 0,
        "dtype": "auto",
        # A quarter of the 13 GiB that stay free is more.
        "kv_cache_memory_bytes": KV_CACHE,
        "enforce_eager": True,
        "distributed_executor_backend": UNIPROC,
        "worker_cls": "server.engines.cpu_worker.CorralCPUWorker",
        "additional_config": {"corral_threads": 6},
    }
    assert shown(plan) == {
        "device": ("cpu", "no NVIDIA GPU answers"),
        "threads": ("6", "one a physical core; fewer while others are busy"),
        "compile": ("False", "eager starts in seconds and is as fast for LLaMA here"),
        "executor": ("uni", "no second process to wait for"),
        "start_method": ("forkserver", "forked from a prepared process"),
        "kv_cache_bytes": (
            str(KV_CACHE),
            f"up to {CPU_KV_MAX_SEQUENCES} full contexts within a quarter of the free memory",
        ),
    }


def test_the_registry_wins_on_a_cpu() -> None:
    said = spec(
        threads=2,
        compile=True,
        executor="mp",
        start_method="fork",
        kv_cache_bytes=5 * MIB,
        dtype="float32",
        quantization="awq",
        max_num_seqs=3,
        max_num_batched_tokens=99,
        prefix_caching=False,
        extra={"seed": 1, "enforce_eager": "theirs"},
    )
    # It is not even asked whether what was set explicitly fits.
    plan = plan_engine(said, machine(memory=1))
    assert (plan.threads, plan.compile, plan.start_method) == (2, True, "fork")
    args = plan.engine_args
    assert args["distributed_executor_backend"] == "mp"
    assert (args["kv_cache_memory_bytes"], args["dtype"]) == (5 * MIB, "float32")
    assert (args["quantization"], args["max_num_seqs"]) == ("awq", 3)
    assert (args["max_num_batched_tokens"], args["enable_prefix_caching"]) == (99, False)
    assert (args["seed"], args["enforce_eager"]) == (1, "theirs")
    reasons = {name: reason for name, (_, reason) in shown(plan).items()}
    assert reasons.pop("device") == "no NVIDIA GPU answers"
    assert set(reasons.values()) == {"registry"}


def test_compiling_needs_a_fresh_process() -> None:
    plan = plan_engine(spec(compile=True), machine())
    assert plan.start_method == "spawn"
    assert shown(plan)["start_method"][1] == "torch.compile needs a fresh process"


def test_several_parts_need_several_processes() -> None:
    plan = plan_engine(spec(tensor_parallel_size=2), machine())
    assert plan.engine_args["distributed_executor_backend"] == "mp"


@pytest.mark.parametrize(
    ("memory", "kv_cache"),
    [
        (3 * GIB + 2 * GIB, GIB // 2),  # a quarter of 2 GiB
        (3 * GIB + 200 * MIB, 128 * MIB),  # a quarter is too little for one context
        (3 * GIB + 128 * MIB, 128 * MIB),
    ],
)
def test_the_kv_cache_of_a_small_machine(memory: int, kv_cache: int) -> None:
    assert plan_engine(spec(), machine(memory)).engine_args["kv_cache_memory_bytes"] == kv_cache


@pytest.mark.parametrize(("short", "lacks"), [(1, 1), (MIB - 1, 1), (100 * MIB, 101)])
def test_what_does_not_fit(short: int, lacks: int) -> None:
    with pytest.raises(EngineDied) as caught:
        plan_engine(spec(), machine(3 * GIB + 128 * MIB - short))
    assert str(caught.value) == (
        "'m' does not fit this machine: weights, one full context of 8064 tokens and the engine "
        f"itself lack {lacks} MiB of memory. Free some, set a smaller context.length in the "
        "registry, or choose a smaller model."
    )


@pytest.mark.parametrize(
    ("compiler", "compiled", "why"),
    [
        ("/usr/bin/c++", True, "a compiler is there"),
        (None, False, "no compiler for Triton's launchers"),
    ],
)
def test_a_gpu(compiler: str | None, compiled: bool, why: str) -> None:
    plan = plan_engine(spec(), machine(gpus=2, compiler=compiler))
    assert (plan.device, plan.threads, plan.compile) == ("cuda", 0, compiled)
    assert plan.engine_args["enforce_eager"] is not compiled
    assert plan.engine_args["gpu_memory_utilization"] == 0.9
    assert "kv_cache_memory_bytes" not in plan.engine_args
    assert "worker_cls" not in plan.engine_args
    assert shown(plan) == {
        "device": ("cuda", "2 x NVIDIA H100"),
        "compile": (str(compiled), why),
        "gpu_memory_utilization": ("0.9", "vLLM sizes the KV cache"),
        "start_method": ("spawn", "CUDA needs a fresh process"),
    }


def test_the_registry_wins_on_a_gpu() -> None:
    said = spec(
        compile=False,
        executor="uni",
        start_method="fork",
        kv_cache_bytes=GIB,
        gpu_memory_utilization=0.5,
        tensor_parallel_size=2,
    )
    plan = plan_engine(said, machine(gpus=2, compiler="/usr/bin/c++"))
    args = plan.engine_args
    assert (args["kv_cache_memory_bytes"], args["gpu_memory_utilization"]) == (GIB, 0.5)
    assert (args["distributed_executor_backend"], args["enforce_eager"]) == (UNIPROC, True)
    assert {reason for name, (_, reason) in shown(plan).items() if name != "device"} == {"registry"}


def test_too_few_gpus() -> None:
    wanted = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    with pytest.raises(EngineDied, match="asks for 8 GPUs and this machine has 2"):
        plan_engine(spec(**wanted), machine(gpus=2))
    plan = plan_engine(spec(**wanted, executor="ray"), machine(gpus=2))
    assert plan.engine_args["distributed_executor_backend"] == "ray"


def test_what_the_registry_tells_a_worker_stands_beside_what_we_do() -> None:
    plan = plan_engine(spec(extra={"additional_config": {"x": 1, "corral_threads": 9}}), machine())
    assert plan.engine_args["additional_config"] == {"x": 1, "corral_threads": 6}
