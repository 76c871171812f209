"""Which engine settings use this machine: every choice with its reason.

Figures behind the choices are in benchmarks/RESULTS.md; what the registry sets always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from server.engines.base import EngineSpec
from server.engines.hardware import Hardware
from server.errors import EngineDied

T = TypeVar("T")
GIB = 1 << 30
MIB = 1 << 20
# What a CPU engine takes besides weights and KV cache (Python, torch, activations): 0.9 GB here.
CPU_OVERHEAD_BYTES = GIB
# Loading holds the weights twice for a moment: as read, and packed for the GEMM library.
CPU_WEIGHT_COPIES = 2
CPU_KV_SHARE = 0.25
CPU_KV_MAX_SEQUENCES = 8
KV_BLOCK_TOKENS = 128
CUDA_MEMORY_SHARE = 0.9
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
        threads: OpenMP threads (0 on a GPU: left to vLLM).
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
        EngineDied: The model cannot fit this machine; the message says by how much.
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


def _plan_cpu(spec: EngineSpec, hardware: Hardware) -> EnginePlan:
    choices = _Choices()
    choices.choose("device", None, "cpu", "no NVIDIA GPU answers")
    threads = choices.choose(
        "threads", spec.threads, hardware.cores, "one a physical core; fewer while others are busy"
    )
    compiled = choices.choose(
        "compile", spec.compile, False, "eager starts in seconds and is as fast for LLaMA here"
    )
    alone = spec.tensor_parallel_size * spec.pipeline_parallel_size == 1
    executor = choices.choose(
        "executor",
        spec.executor,
        "uni" if alone else "mp",
        "no second process to wait for" if alone else "a process for each part of the model",
    )
    start = choices.choose(
        "start_method",
        spec.start_method,
        "spawn" if compiled else "forkserver",
        "torch.compile needs a fresh process" if compiled else "forked from a prepared process",
    )
    kv_cache = choices.choose(
        "kv_cache_bytes",
        spec.kv_cache_bytes,
        # What the user set is not second-guessed.
        _cpu_kv_cache(spec, hardware) if spec.kv_cache_bytes is None else 0,
        f"up to {CPU_KV_MAX_SEQUENCES} full contexts within a quarter of the free memory",
    )
    args = (
        _common_args(spec)
        | {
            "dtype": spec.dtype or "auto",
            "kv_cache_memory_bytes": kv_cache,
            "enforce_eager": not compiled,
            "distributed_executor_backend": UNIPROC if executor == "uni" else executor,
            "worker_cls": "server.engines.cpu_worker.CorralCPUWorker",
        }
        | dict(spec.extra)
    )
    # Last, and beside what the registry puts there: the worker cannot start without it.
    args["additional_config"] = {
        **args.get("additional_config", {}),
        "corral_threads": threads,
    }
    return EnginePlan(
        device="cpu",
        threads=threads,
        compile=compiled,
        start_method=start,
        engine_args=args,
        choices=tuple(choices.made),
    )


def _cpu_kv_cache(spec: EngineSpec, hardware: Hardware) -> int:
    """Bytes for the KV cache: room for many full contexts, but a modest part of free memory."""
    one_context = spec.kv_bytes_per_token * (spec.max_model_len + KV_BLOCK_TOKENS)
    free = hardware.memory_available - CPU_WEIGHT_COPIES * spec.weight_bytes - CPU_OVERHEAD_BYTES
    if free < one_context:
        raise EngineDied(
            f"'{spec.name}' does not fit this machine: weights, one full context of "
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
    # Triton and Inductor build their launchers with the host's compiler.
    compiled = choices.choose(
        "compile",
        spec.compile,
        hardware.compiler is not None,
        "a compiler is there" if hardware.compiler else "no compiler for Triton's launchers",
    )
    args = _common_args(spec) | {"dtype": spec.dtype or "auto", "enforce_eager": not compiled}
    if spec.kv_cache_bytes is not None:
        args["kv_cache_memory_bytes"] = choices.choose(
            "kv_cache_bytes", spec.kv_cache_bytes, 0, "registry"
        )
    # With a KV cache of a set size it still is what vLLM wants to find free before it starts.
    if spec.kv_cache_bytes is None or spec.gpu_memory_utilization is not None:
        args["gpu_memory_utilization"] = choices.choose(
            "gpu_memory_utilization",
            spec.gpu_memory_utilization,
            CUDA_MEMORY_SHARE,
            "vLLM sizes the KV cache",
        )
    if spec.executor is not None:
        executor = choices.choose("executor", spec.executor, "uni", "registry")
        args["distributed_executor_backend"] = UNIPROC if executor == "uni" else executor
    start = choices.choose("start_method", spec.start_method, "spawn", "CUDA needs a fresh process")
    return EnginePlan(
        device="cuda",
        threads=0,
        compile=compiled,
        start_method=start,
        engine_args=args | dict(spec.extra),
        choices=tuple(choices.made),
    )


def _common_args(spec: EngineSpec) -> dict[str, Any]:
    args: dict[str, Any] = {
        "model": str(spec.model_dir),
        "served_model_name": spec.name,
        "max_model_len": spec.max_model_len,
        "tensor_parallel_size": spec.tensor_parallel_size,
        "pipeline_parallel_size": spec.pipeline_parallel_size,
        "enable_prefix_caching": spec.prefix_caching is not False,
        "disable_log_stats": True,
        "shutdown_timeout": 0,
    }
    if spec.max_num_seqs is not None:
        args["max_num_seqs"] = spec.max_num_seqs
    if spec.max_num_batched_tokens is not None:
        args["max_num_batched_tokens"] = spec.max_num_batched_tokens
    if spec.quantization is not None:
        args["quantization"] = spec.quantization
    return args
