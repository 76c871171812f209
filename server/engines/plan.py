"""Which engine settings use this machine: every choice with its reason.

Figures behind the choices are in benchmarks/RESULTS.md; what the registry sets always wins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from server.engines.base import EngineSpec
from server.engines.binding import Binding, bind_workers
from server.engines.gpus import Gpu
from server.engines.hardware import Hardware
from server.engines.lora_args import (
    adapters_bytes,
    lora_args,
    refuse_compiled_adapters,
    room_for,
)
from server.errors import EngineDied

T = TypeVar("T")
StartMethod = Literal["forkserver", "fork", "spawn"]
_FORKS = ("fork", "forkserver")
GIB = 1 << 30
MIB = 1 << 20
# What a CPU worker takes besides weights and KV cache (Python, torch, activations): 0.9 GB here.
CPU_OVERHEAD_BYTES = GIB
# Loading holds the weights twice for a moment: as read, and packed for the GEMM library.
CPU_WEIGHT_COPIES = 2
CPU_KV_SHARE = 0.25
CPU_KV_MAX_SEQUENCES = 8
KV_BLOCK_TOKENS = 128
CUDA_MEMORY_SHARE = 0.9
# What a GPU worker takes besides weights and KV cache: activations of the largest step, logits of
# every sequence, CUDA graphs. An estimate for models of 7B to 13B.
CUDA_OVERHEAD_BYTES = 2 * GIB
UNIPROC = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting: its name, its value as text, and why (``registry`` when the user said so)."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """Settings of one engine, decided.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: OpenMP threads of each worker (0 on a GPU: left to vLLM).
        compile: True when torch.compile is used.
        start_method: How the engine's process is made.
        engine_args: Keyword arguments for vLLM's ``AsyncEngineArgs``.
        choices: The same, for people.
    """

    device: str
    threads: int
    compile: bool
    start_method: str
    engine_args: Mapping[str, Any]
    choices: tuple[Choice, ...]


def plan_engine(spec: EngineSpec, hardware: Hardware) -> EnginePlan:
    """Decide how ``spec`` runs on ``hardware``.

    Raises:
        EngineDied: The model cannot fit this machine, or what the registry says cannot be; the
            message says by how much, or why.
    """
    return _plan_cuda(spec, hardware) if hardware.gpus else _plan_cpu(spec, hardware)


class _Choices:
    """Collects the choices made."""

    def __init__(self) -> None:
        self.made: list[Choice] = []

    def choose(self, name: str, said: T | None, default: T, reason: str) -> T:
        """What the registry said, else ``default`` for ``reason``."""
        value = default if said is None else said
        self.made.append(Choice(name, str(value), reason if said is None else "registry"))
        return value

    def note_adapters(self, spec: EngineSpec) -> None:
        if spec.max_adapters:
            room = f"{spec.max_adapters} of rank {room_for(spec.max_adapter_rank)}"
            self.made.append(Choice("adapters", room, "room for so many at the same time"))


def _plan_cpu(spec: EngineSpec, hardware: Hardware) -> EnginePlan:
    refuse_compiled_adapters(spec)
    choices = _Choices()
    choices.choose("device", None, "cpu", hardware.no_gpu)
    workers = spec.tensor_parallel_size * spec.pipeline_parallel_size
    least = _cpu_worker_bytes(spec, workers) + (
        spec.kv_cache_bytes or _one_context(spec) // workers
    )
    binding = bind_workers(spec, hardware, workers, least)
    threads = choices.choose(
        "threads",
        spec.threads,
        max(1, min([hardware.cores // workers, *map(len, binding.cpus)])),
        "one a physical core; fewer while others are busy",
    )
    choices.made.append(Choice("binding", str(binding), binding.reason))
    compiled = choices.choose(
        "compile", spec.compile, False, "eager starts in seconds and is as fast for LLaMA here"
    )
    executor = choices.choose(
        "executor",
        spec.executor,
        "uni" if workers == 1 else "mp",
        "no second process to wait for" if workers == 1 else "a process for each part of the model",
    )
    start = choices.choose(
        "start_method",
        _start_method(spec, compiled),
        "spawn" if compiled else "forkserver",
        "torch.compile needs a fresh process" if compiled else "forked from a prepared process",
    )
    kv_cache = choices.choose(
        "kv_cache_bytes",
        spec.kv_cache_bytes,
        # What the user set is not second-guessed.
        _cpu_kv_cache(spec, binding, workers) if spec.kv_cache_bytes is None else 0,
        f"up to {CPU_KV_MAX_SEQUENCES} full contexts within a quarter of the free memory",
    )
    choices.note_adapters(spec)
    args = {
        "kv_cache_memory_bytes": kv_cache,
        "enforce_eager": not compiled,
        "distributed_executor_backend": UNIPROC if executor == "uni" else executor,
        "worker_cls": "server.engines.cpu_worker.CorralCPUWorker",
        **lora_args(spec, spare_slot=True),
    }
    return EnginePlan(
        device="cpu",
        threads=threads,
        compile=compiled,
        start_method=start,
        engine_args=_told_workers(_common_args(spec) | args | dict(spec.extra), threads, binding),
        choices=tuple(choices.made),
    )


def _told_workers(args: Mapping[str, Any], threads: int, binding: Binding) -> dict[str, Any]:
    """``args`` with what our worker cannot start without, beside what the registry puts there."""
    ours = {"corral_threads": threads, "corral_cpus": [list(cpus) for cpus in binding.cpus]}
    return {**args, "additional_config": {**args.get("additional_config", {}), **ours}}


def _start_method(spec: EngineSpec, compiled: bool) -> StartMethod | None:
    """What the registry says, unless it would turn compilation off without a word.

    Raises:
        EngineDied: A process that is forked, by the server or its helper, has torch as it was
            imported there: ``TORCH_COMPILE_DISABLE`` was read long ago.
    """
    if compiled and spec.start_method in _FORKS:
        raise EngineDied(
            f"'{spec.name}' has compile: true and start_method: {spec.start_method} in its engine "
            "settings, and a forked process cannot compile. Leave start_method out of the "
            "registry or set it to spawn, or set compile: false."
        )
    return spec.start_method


def _one_context(spec: EngineSpec) -> int:
    """Bytes of KV cache that the longest conversation takes."""
    return spec.kv_bytes_per_token * (spec.max_model_len + KV_BLOCK_TOKENS)


def _cpu_worker_bytes(spec: EngineSpec, workers: int) -> int:
    """What each of the workers takes while it loads, without its KV cache."""
    weights = CPU_WEIGHT_COPIES * spec.weight_bytes // workers
    return weights + adapters_bytes(spec, cpu=True) + CPU_OVERHEAD_BYTES


def _cpu_kv_cache(spec: EngineSpec, binding: Binding, workers: int) -> int:
    """Bytes for each worker's KV cache: many full contexts, but a modest part of free memory."""
    one_context = _one_context(spec) // workers
    free = binding.memory - _cpu_worker_bytes(spec, workers)
    if free < one_context:
        place = f"the memory beside CPUs {binding}" if binding.cpus else "this machine"
        raise EngineDied(
            f"'{spec.name}' does not fit {place}: weights, one full context of "
            f"{spec.max_model_len} tokens and the engine itself lack "
            f"{(one_context - free) // MIB + 1} MiB of memory. Free some, set a smaller "
            "context.length in the registry, or choose a smaller model."
        )
    return max(one_context, min(int(free * CPU_KV_SHARE), CPU_KV_MAX_SEQUENCES * one_context))


def _plan_cuda(spec: EngineSpec, hardware: Hardware) -> EnginePlan:
    wanted = spec.tensor_parallel_size * spec.pipeline_parallel_size
    if wanted > len(hardware.gpus) and spec.executor != "ray":
        raise EngineDied(
            f"'{spec.name}' asks for {wanted} GPUs and this machine has {len(hardware.gpus)}. "
            "Lower tensor_parallel_size in the registry or set executor: ray."
        )
    choices = _Choices()
    choices.choose("device", None, "cuda", f"{len(hardware.gpus)} x {hardware.gpus[0].name}")
    can_compile, why = _cuda_compile(spec, hardware)
    compiled = choices.choose("compile", spec.compile, can_compile, why)
    args = _common_args(spec) | {"enforce_eager": not compiled}
    choices.note_adapters(spec)
    args |= lora_args(spec, spare_slot=False)
    if spec.kv_cache_bytes is not None:
        args["kv_cache_memory_bytes"] = choices.choose(
            "kv_cache_bytes", spec.kv_cache_bytes, 0, "registry"
        )
    share, why = _cuda_share(spec, hardware.gpus[:wanted], wanted)
    args["gpu_memory_utilization"] = choices.choose(
        "gpu_memory_utilization", spec.gpu_memory_utilization, share, why
    )
    if spec.executor is not None:
        executor = choices.choose("executor", spec.executor, "uni", "registry")
        args["distributed_executor_backend"] = UNIPROC if executor == "uni" else executor
    start = choices.choose(
        "start_method", _start_method(spec, compiled), "spawn", "CUDA needs a fresh process"
    )
    return EnginePlan(
        device="cuda",
        threads=0,
        compile=compiled,
        start_method=start,
        engine_args=args | dict(spec.extra),
        choices=tuple(choices.made),
    )


def _cuda_compile(spec: EngineSpec, hardware: Hardware) -> tuple[bool, str]:
    """Whether to compile, and why: Triton's launchers are built while the model is loaded."""
    if lacks := hardware.gpu_compile_lacks:
        return False, f"{lacks} for Triton's launchers"
    if spec.start_method in _FORKS:
        return False, "a forked process cannot"
    return True, "a C compiler and Python.h are there"


def _cuda_share(spec: EngineSpec, gpus: Sequence[Gpu], parts: int) -> tuple[float, str]:
    """The share of each GPU's memory that vLLM is told to use, and why.

    vLLM 0.32 uses it twice (v1/worker/gpu_worker.py). ``init_device`` refuses to start where that
    share of the *whole* memory is not free (``request_memory`` in v1/worker/utils.py), then
    ``determine_available_memory`` makes the KV cache of what is left of it. With
    ``kv_cache_memory_bytes`` the second is left out and the first is not: with vLLM's own 0.92 a
    small engine would be refused beside any other process. So it asks for what this engine takes.
    That neither reserves nor limits anything: where the estimate is low, CUDA finds out.
    """
    smallest = min(gpus, key=lambda gpu: gpu.memory_total)
    if spec.kv_cache_bytes is not None:
        need = spec.weight_bytes // parts + spec.kv_cache_bytes + CUDA_OVERHEAD_BYTES
        need += adapters_bytes(spec, cpu=False)
        share = math.ceil(100 * need / smallest.memory_total) / 100
        why = f"weights, KV cache and {CUDA_OVERHEAD_BYTES // GIB} GiB besides"
        return min(share, CUDA_MEMORY_SHARE), why
    if smallest.unified:
        free = CUDA_MEMORY_SHARE * smallest.memory_free / smallest.memory_total
        return max(0.01, math.floor(100 * free) / 100), "90% of what is free: it is the system's"
    return CUDA_MEMORY_SHARE, "vLLM sizes the KV cache"


def _common_args(spec: EngineSpec) -> dict[str, Any]:
    args: dict[str, Any] = {
        "model": str(spec.model_dir),
        "served_model_name": spec.name,
        "dtype": spec.dtype or "auto",
        "max_model_len": spec.max_model_len,
        "tensor_parallel_size": spec.tensor_parallel_size,
        "pipeline_parallel_size": spec.pipeline_parallel_size,
        "disable_log_stats": True,
        "shutdown_timeout": 0,
        # Requests of equal priority come in the order of their arrival, as without.
        "scheduling_policy": "priority",
    }
    if spec.embeds:
        args |= {"runner": "pooling", "convert": "embed"}
    # Whether an embedding model can share prefixes depends on how it pools, which vLLM knows.
    if spec.prefix_caching is not None or not spec.embeds:
        args["enable_prefix_caching"] = spec.prefix_caching is not False
    if spec.reasoning_parser is not None:
        # The engine must know where reasoning ends, because no constraint holds before.
        args["reasoning_parser"] = spec.reasoning_parser
    if spec.max_num_seqs is not None:
        args["max_num_seqs"] = spec.max_num_seqs
    if spec.max_num_batched_tokens is not None:
        args["max_num_batched_tokens"] = spec.max_num_batched_tokens
    if spec.quantization is not None:
        args["quantization"] = spec.quantization
    return args
