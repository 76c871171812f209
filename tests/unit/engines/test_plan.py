from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.engines.choices import UNIPROC, EnginePlan
from server.engines.cpu_plan import KV_MAX_CONTEXTS
from server.engines.hardware import Gpu, Hardware, Node
from server.engines.need import FORKED_BYTES, GIB, MIB
from server.engines.plan import check_free, plan_engine
from server.engines.spec import EngineSpec
from server.errors import EngineDied

KV = 1 << 14  # 16 KiB a token: a context of 8,064 tokens and a block of 128 take 128 MiB
CONTEXT = 8192 - 128
KV_CACHE = KV_MAX_CONTEXTS * 128 * MIB
GPU = Gpu(0, "NVIDIA H100", 80 * GIB, 79 * GIB)
# Weights of 1 GiB, a process, and 48 MiB that its heap grows by; the spec has no shape.
FIXED = GIB + FORKED_BYTES + 48 * MIB


def spec(**fields: Any) -> EngineSpec:
    basics = {
        "name": "m",
        "model_dir": Path("/models/m"),
        "max_model_len": CONTEXT,
        "weight_bytes": GIB,
        "kv_bytes_per_token": KV,
    }
    return EngineSpec(**basics | fields)


def machine(memory: int = 16 * GIB, gpus: int | tuple[Gpu, ...] = 0, **fields: Any) -> Hardware:
    basics = {
        "cpu_model": "",
        "cores": 6,
        "isa": (),
        "memory_total": memory,
        "memory_available": memory,
        "compiler": None,
        "gpus": (GPU,) * gpus if isinstance(gpus, int) else gpus,
        "cpus": tuple(range(6)),
        "nodes": (Node(0, tuple(range(6)), memory),),
    }
    return Hardware(**basics | fields)


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
        "scheduling_policy": "priority",
        "dtype": "auto",
        # A quarter of the 12 GiB or so that stay for models is more.
        "kv_cache_memory_bytes": KV_CACHE,
        "enforce_eager": True,
        "distributed_executor_backend": UNIPROC,
        "worker_cls": "server.engines.cpu_worker.CorralCPUWorker",
        "additional_config": {"corral_threads": 6, "corral_cpus": []},
    }
    assert shown(plan) == {
        "device": ("cpu", "nvidia-smi does not answer"),
        "threads": ("6", "one a physical core; fewer while others are busy"),
        "binding": ("none", "one NUMA node: threads may leave a core that others take"),
        "compile": ("False", "eager starts in seconds and is as fast for LLaMA here"),
        "executor": ("uni", "no second process to wait for"),
        "start_method": ("forkserver", "forked from a prepared process"),
        "kv_cache_bytes": (
            str(KV_CACHE),
            f"up to {KV_MAX_CONTEXTS} full contexts within a quarter of what is left for models",
        ),
    }


def test_the_registry_wins_on_a_cpu() -> None:
    said = spec(
        threads=2,
        binding="1-2",
        compile=True,
        executor="mp",
        start_method="spawn",
        kv_cache_bytes=500 * MIB,
        dtype="float32",
        quantization="awq",
        max_num_seqs=3,
        max_num_batched_tokens=99,
        prefix_caching=False,
        extra={"seed": 1, "enforce_eager": "theirs"},
    )
    # Whether it fits is not asked here.
    plan = plan_engine(said, machine(memory=1))
    assert (plan.threads, plan.compile, plan.start_method) == (2, True, "spawn")
    args = plan.engine_args
    assert args["distributed_executor_backend"] == "mp"
    assert (args["kv_cache_memory_bytes"], args["dtype"]) == (500 * MIB, "float32")
    assert (args["quantization"], args["max_num_seqs"]) == ("awq", 3)
    assert (args["max_num_batched_tokens"], args["enable_prefix_caching"]) == (99, False)
    assert (args["seed"], args["enforce_eager"]) == (1, "theirs")
    assert args["additional_config"] == {"corral_threads": 2, "corral_cpus": [[1, 2]]}
    reasons = {name: reason for name, (_, reason) in shown(plan).items()}
    assert reasons.pop("device") == "nvidia-smi does not answer"
    assert set(reasons.values()) == {"registry"}


def test_compiling_needs_a_fresh_process() -> None:
    plan = plan_engine(spec(compile=True), machine())
    assert plan.start_method == "spawn"
    assert shown(plan)["start_method"][1] == "torch.compile needs a fresh process"


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("gpus", [0, 1])
def test_compiling_in_a_forked_process_is_refused(method: str, gpus: int) -> None:
    """It would be eager without a word: torch was imported there with compilation off."""
    said = spec(compile=True, start_method=method)
    with pytest.raises(EngineDied) as caught:
        plan_engine(said, machine(gpus=gpus, c_compiler="/usr/bin/gcc"))
    assert str(caught.value) == (
        f"'m' has compile: true and start_method: {method} in its engine settings, and a forked "
        "process cannot compile. Leave start_method out of the registry or set it to spawn, or "
        "set compile: false."
    )
    plan = plan_engine(spec(compile=False, start_method=method), machine(gpus=gpus))
    assert (plan.compile, plan.start_method) == (False, method)


def test_several_parts_need_several_processes() -> None:
    """Each has its part of the weights, of the cache, and of the cores."""
    plan = plan_engine(spec(tensor_parallel_size=2), machine())
    assert plan.engine_args["distributed_executor_backend"] == "mp"
    assert plan.engine_args["kv_cache_memory_bytes"] == KV_CACHE // 2
    assert plan.threads == 3
    assert shown(plan)["binding"][0] == "none"


def test_a_machine_of_two_sockets() -> None:
    """The KV cache is such that the engine stays in the memory of one of them."""
    nodes = (Node(0, (0, 1, 2), 4 * GIB), Node(1, (3, 4, 5), 5 * GIB))
    both = {"ram": 8 * GIB}

    def planned(memory: int = 9 * GIB, **fields: Any) -> EnginePlan:
        return plan_engine(spec(**fields), machine(memory, nodes=nodes), budget=both)

    plan = planned()
    assert plan.threads == 3
    assert plan.engine_args["additional_config"]["corral_cpus"] == [[3, 4, 5]]
    # A quarter of what one node's 4 GiB leave.
    assert plan.engine_args["kv_cache_memory_bytes"] == (4 * GIB - FIXED) // 4
    assert shown(plan)["binding"] == ("3-5", "the cores of one NUMA node: nearest to memory")
    assert (plan.free, plan.place) == (5 * GIB, "the memory beside CPUs 3-5")
    parts = planned(pipeline_parallel_size=2)
    assert (parts.threads, shown(parts)["binding"][0]) == (3, "3-5 | 0-2")
    free = planned(binding="none")
    assert (free.threads, shown(free)["binding"]) == (6, ("none", "registry"))
    assert free.engine_args["kv_cache_memory_bytes"] == KV_CACHE
    # What the registry wants is the node's too.
    large = planned(kv_cache_bytes=4 * GIB)
    assert shown(large)["binding"] == ("none", "too large for one NUMA node")
    # Too large for one: then it has all of the budget.
    heavy = planned(weight_bytes=4 * GIB)
    assert shown(heavy)["binding"] == ("none", "too large for one NUMA node")
    assert heavy.engine_args["kv_cache_memory_bytes"] == (8 * GIB - FIXED - 3 * GIB) // 4
    assert heavy.need.resident == FIXED + 3 * GIB + (5 * GIB - FIXED) // 4


def test_what_does_not_fit_where_it_is_bound() -> None:
    nodes = (Node(0, (0, 1, 2), GIB), Node(1, (3, 4, 5), GIB))
    plan = plan_engine(spec(binding="cores"), machine(nodes=nodes))
    with pytest.raises(EngineDied, match="'m' does not fit into what is free of the memory beside"):
        check_free("m", plan)


def test_a_quota_of_less_than_a_nodes_cores() -> None:
    nodes = (Node(0, (0, 1, 2, 3), 8 * GIB), Node(1, (4, 5, 6, 7), 8 * GIB))
    assert plan_engine(spec(), machine(cores=2, nodes=nodes)).threads == 2


@pytest.mark.parametrize(
    ("budget", "kv_cache"),
    [
        (FIXED + 5 * GIB, KV_CACHE),
        (FIXED + 2 * GIB, GIB // 2),  # a quarter
        (FIXED + 200 * MIB, 128 * MIB),  # a quarter is too little for one context
        (FIXED, 128 * MIB),
        (0, 128 * MIB),  # the ledger will say that it never fits, and by how much
    ],
)
def test_the_kv_cache_goes_by_the_budget(budget: int, kv_cache: int) -> None:
    for memory in (GIB, 100 * GIB):
        plan = plan_engine(spec(), machine(memory), budget={"ram": budget})
        assert plan.engine_args["kv_cache_memory_bytes"] == kv_cache, "whatever is free now"
        assert plan.kv_tokens == kv_cache // KV
        assert plan.need.kv_cache == kv_cache
        assert plan.need.resident == plan.need.peak == FIXED + kv_cache


@pytest.mark.parametrize("short", [1, MIB, 100 * MIB])
def test_what_others_hold_is_missing(short: int) -> None:
    need = FIXED + 128 * MIB
    check_free("m", plan_engine(spec(), machine(need), budget={"ram": FIXED}))
    plan = plan_engine(spec(), machine(need - short), budget={"ram": FIXED})
    with pytest.raises(EngineDied) as caught:
        check_free("m", plan)
    assert str(caught.value) == (
        f"'m' does not fit into what is free of this machine now: it takes {need // MIB} MiB and "
        f"{-(-short // MIB)} MiB are missing, which other programs hold. End some, set a smaller "
        "context.length or engine.kv_cache in the registry, or choose a smaller model."
    )


@pytest.mark.parametrize(("gpus", "tokens"), [(0, 8064 + 128), (1, 8064 + 16)])
def test_a_kv_cache_in_tokens(gpus: int, tokens: int) -> None:
    """vLLM keeps one block for itself: of 128 tokens on a CPU, of 16 on a GPU."""
    plan = plan_engine(spec(kv_cache_tokens=8050), machine(gpus=gpus))
    assert plan.engine_args["kv_cache_memory_bytes"] == tokens * KV
    assert shown(plan)["kv_cache_bytes"] == (str(tokens * KV), "registry")
    assert plan.kv_tokens == tokens
    said = spec(kv_cache_tokens=8050, extra={"block_size": 32})
    assert plan_engine(said, machine(gpus=gpus)).kv_tokens == 8064 + 32


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize(
    "fields", [{"kv_cache_bytes": 100 * MIB}, {"kv_cache_tokens": 6000}], ids=["bytes", "tokens"]
)
def test_a_context_that_the_kv_cache_cannot_hold(fields: dict[str, Any], gpus: int) -> None:
    with pytest.raises(EngineDied) as caught:
        plan_engine(spec(**fields), machine(gpus=gpus))
    least = 127 if gpus else 128
    has, holds = (100, 6384 if gpus else 6272) if "kv_cache_bytes" in fields else (94, 6000)
    if "kv_cache_tokens" in fields and not gpus:
        has, holds = 96, 6016  # whole blocks
    assert str(caught.value) == (
        f"'m' has an engine.kv_cache of {has} MiB in the registry, which holds {holds} tokens, and "
        f"its context has 8064 ({least} MiB). Set at least that, or a smaller context.length, or "
        "leave it out."
    )
    # Where the cache takes less than is reckoned, vLLM decides.
    plan_engine(spec(**fields, sliding_window=True), machine(gpus=gpus))
    plan_engine(spec(**fields, extra={"kv_cache_dtype": "fp8"}), machine(gpus=gpus))


@pytest.mark.parametrize(
    ("tools", "compiled", "why"),
    [
        ({"c_compiler": "/usr/bin/gcc"}, True, "a C compiler and Python.h are there"),
        # C++ is of no use to Triton.
        ({"compiler": "/usr/bin/c++"}, False, "no C compiler for Triton's launchers"),
        (
            {"c_compiler": "/usr/bin/gcc", "python_h": False},
            False,
            "no Python.h for Triton's launchers",
        ),
    ],
)
def test_a_gpu(tools: dict[str, Any], compiled: bool, why: str) -> None:
    plan = plan_engine(spec(), machine(gpus=2, **tools))
    assert (plan.device, plan.threads, plan.compile) == ("cuda", 0, compiled)
    assert plan.engine_args["enforce_eager"] is not compiled
    assert plan.engine_args["gpu_memory_utilization"] == 0.9
    assert "kv_cache_memory_bytes" not in plan.engine_args
    assert "worker_cls" not in plan.engine_args
    assert shown(plan) == {
        "device": ("cuda", "2 x NVIDIA H100"),
        "compile": (str(compiled), why),
        "sleeps": ("True", "it wakes up sooner than it could be loaded"),
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
        sleeps=False,
    )
    plan = plan_engine(said, machine(gpus=2, c_compiler="/usr/bin/gcc"))
    args = plan.engine_args
    assert (args["kv_cache_memory_bytes"], args["gpu_memory_utilization"]) == (GIB, 0.5)
    assert (args["distributed_executor_backend"], args["enforce_eager"]) == (UNIPROC, True)
    assert args["enable_sleep_mode"] is False
    assert {reason for name, (_, reason) in shown(plan).items() if name != "device"} == {"registry"}


def test_a_gpu_where_the_registry_says_forked() -> None:
    plan = plan_engine(spec(start_method="fork"), machine(gpus=1, c_compiler="/usr/bin/gcc"))
    assert shown(plan)["compile"] == ("False", "a forked process cannot")


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        # Weights 1 GiB, cache 1 GiB, 2 GiB besides: 4 of 80, not vLLM's 92%.
        ({"kv_cache_bytes": GIB}, 0.05),
        ({"kv_cache_bytes": 30 * GIB}, 0.42),
        ({"kv_cache_bytes": GIB, "weight_bytes": 40 * GIB, "tensor_parallel_size": 2}, 0.29),
        # What cannot fit fails no earlier than without: quantised weights are smaller loaded.
        ({"kv_cache_bytes": GIB, "weight_bytes": 140 * GIB}, 0.9),
        ({"kv_cache_bytes": GIB, "gpu_memory_utilization": 0.3}, 0.3),
    ],
)
def test_a_kv_cache_of_a_set_size_leaves_the_rest_of_the_gpu(
    fields: dict[str, Any], share: float
) -> None:
    plan = plan_engine(spec(**fields), machine(gpus=2))
    assert plan.engine_args["kv_cache_memory_bytes"] == fields["kv_cache_bytes"]
    assert plan.engine_args["gpu_memory_utilization"] == share
    said = "gpu_memory_utilization" in fields
    why = "registry" if said else "weights, KV cache and 2 GiB besides"
    assert plan.need.kv_cache == fields["kv_cache_bytes"]
    assert plan.need.overhead == 2 * GIB
    assert shown(plan)["gpu_memory_utilization"] == (str(share), why)


def test_only_the_gpus_that_are_used_count() -> None:
    small = Gpu(1, "Small", 8 * GIB, 8 * GIB)
    plan = plan_engine(spec(kv_cache_bytes=GIB), machine(gpus=(GPU, small)))
    assert plan.engine_args["gpu_memory_utilization"] == 0.05
    both = spec(kv_cache_bytes=GIB, tensor_parallel_size=2)
    plan = plan_engine(both, machine(gpus=(GPU, small)))
    assert plan.engine_args["gpu_memory_utilization"] == 0.44


def test_a_gpu_that_shares_the_systems_memory() -> None:
    gpu = Gpu(0, "NVIDIA GB10", 128 * GIB, 96 * GIB, unified=True)
    there = machine(96 * GIB, gpus=(gpu,), memory_total=128 * GIB)
    plan = plan_engine(spec(), there)
    assert shown(plan)["sleeps"] == ("False", "its memory is the system's")
    # 96 GiB are free, less 1.25 for the server and 5% of 128 for others.
    assert shown(plan)["gpu_memory_utilization"] == (
        "0.69",
        "of the system's memory, what is there for models",
    )
    assert plan.need.resident == 96 * GIB - 1280 * MIB - int(0.05 * 128 * GIB)
    plan = plan_engine(spec(kv_cache_bytes=GIB), there)
    assert plan.engine_args["gpu_memory_utilization"] == 0.04


def test_an_engine_takes_the_whole_gpu_unless_it_has_a_kv_cache() -> None:
    whole = plan_engine(spec(), machine(gpus=2)).need
    assert (whole.resident, whole.devices) == (72 * GIB, 1)
    assert (whole.weights, whole.overhead, whole.kv_cache) == (GIB, 2 * GIB, 69 * GIB)
    both = plan_engine(spec(tensor_parallel_size=2), machine(gpus=2)).need
    assert (both.weights, both.resident, both.devices) == (GIB // 2, 72 * GIB, 2)
    said = plan_engine(spec(gpu_memory_utilization=0.5), machine(gpus=2)).need
    assert said.resident == 40 * GIB
    # The budget is less than vLLM would take.
    plan = plan_engine(spec(), machine(gpus=1), budget={"gpu0": 60 * GIB})
    assert plan.need.resident == 60 * GIB
    assert shown(plan)["gpu_memory_utilization"] == (
        "0.75",
        "what is there for models; vLLM sizes the KV cache",
    )


def test_gpus_of_different_sizes() -> None:
    """An engine without a KV cache of its own takes the same wherever it is put."""
    small = Gpu(1, "Small", 20 * GIB, 20 * GIB)
    there = machine(gpus=(GPU, small))
    for devices, share in ((("gpu0",), 0.22), (("gpu1",), 0.9)):
        plan = plan_engine(spec(), there, devices=devices)
        assert plan.need.resident == 18 * GIB
        assert plan.engine_args["gpu_memory_utilization"] == share
    # Too large for the small one: the large one's.
    assert plan_engine(spec(weight_bytes=30 * GIB), there).need.resident == 72 * GIB
    assert plan_engine(spec(weight_bytes=90 * GIB), there).need.resident >= 92 * GIB


def test_the_gpus_that_an_engine_is_put_on() -> None:
    gpus = tuple(Gpu(n, "NVIDIA H100", 80 * GIB, (70 + n) * GIB, f"GPU-{n}") for n in range(4))
    two = spec(tensor_parallel_size=2, kv_cache_bytes=GIB)
    plan = plan_engine(two, machine(gpus=gpus), devices=("gpu2", "gpu3"))
    assert (plan.visible, plan.free, plan.place) == ("2,3", 72 * GIB, "GPU 2, GPU 3")
    assert shown(plan)["device"] == ("cuda", "4 x NVIDIA H100: gpu2, gpu3")
    assert plan.devices == ("gpu2", "gpu3")
    undecided = plan_engine(two, machine(gpus=gpus))
    assert (undecided.devices, undecided.visible) == (None, None)
    # Of those that the user lets us see, in the user's words.
    some = tuple(
        replace(gpu, called=name) for gpu, name in zip(gpus[2:], ("3", "GPU-2"), strict=True)
    )
    plan = plan_engine(spec(kv_cache_bytes=GIB), machine(gpus=some), devices=("gpu1",))
    assert plan.visible == "GPU-2"


def test_too_few_gpus() -> None:
    wanted = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    with pytest.raises(EngineDied, match="asks for 8 GPUs and this machine has 2"):
        plan_engine(spec(**wanted), machine(gpus=2))
    plan = plan_engine(spec(**wanted, executor="ray"), machine(gpus=2))
    assert plan.engine_args["distributed_executor_backend"] == "ray"


def test_what_the_registry_tells_a_worker_stands_beside_what_we_do() -> None:
    plan = plan_engine(spec(extra={"additional_config": {"x": 1, "corral_threads": 9}}), machine())
    assert plan.engine_args["additional_config"] == {
        "x": 1,
        "corral_threads": 6,
        "corral_cpus": [],
    }


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_model_for_embeddings(gpus: int) -> None:
    args = plan_engine(spec(embeds=True), machine(gpus=gpus)).engine_args
    assert (args["runner"], args["convert"]) == ("pooling", "embed")
    # vLLM knows which ways of pooling can share prefixes.
    assert "enable_prefix_caching" not in args
    said = spec(embeds=True, prefix_caching=False)
    assert plan_engine(said, machine(gpus=gpus)).engine_args["enable_prefix_caching"] is False
