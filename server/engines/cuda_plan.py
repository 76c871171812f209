"""How an engine runs on NVIDIA GPUs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.engines.choices import (
    FORKS,
    UNIPROC,
    Choices,
    EnginePlan,
    common_args,
    start_method,
)
from server.engines.gpus import Gpu, visible
from server.engines.hardware import Hardware
from server.engines.ledger import Need
from server.engines.lora_args import lora_args
from server.engines.need import (
    CUDA_BLOCK_TOKENS,
    GIB,
    Rest,
    block_tokens,
    cuda_need,
    kv_bytes,
    kv_token_bytes,
)
from server.engines.spec import EngineSpec
from server.errors import EngineDied

MEMORY_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an engine takes of each GPU.

    Args:
        need: In bytes.
        share: What vLLM is told, as a share of the smallest of its GPUs.
        why: The reason for ``share``.
        kv_cache: What vLLM is told of the KV cache; None leaves it to vLLM.
    """

    need: Need
    share: float
    why: str
    kv_cache: int | None


def plan_cuda(
    spec: EngineSpec,
    hardware: Hardware,
    budget: Mapping[str, int],
    rest: Rest | None,
    devices: Sequence[str] | None,
) -> EnginePlan:
    """Decide it.

    Args:
        budget: Device → bytes that engines may hold of it.
        rest: What was measured of an engine like this one.
        devices: The GPUs that it is to run on; None: the first ones.

    Raises:
        EngineDied: There are too few GPUs.
    """
    wanted = spec.workers
    if wanted > len(hardware.gpus) and spec.executor != "ray":
        raise EngineDied(
            f"'{spec.name}' asks for {wanted} GPUs and this machine has {len(hardware.gpus)}. "
            "Lower tensor_parallel_size in the registry or set executor: ray."
        )
    chosen = [int(device.removeprefix("gpu")) for device in devices or ()] or [
        *range(min(wanted, len(hardware.gpus)))
    ]
    gpus = [hardware.gpus[number] for number in chosen]
    choices = Choices()
    names = f"{len(hardware.gpus)} x {hardware.gpus[0].name}"
    choices.choose("device", None, "cuda", f"{names}: {', '.join(devices)}" if devices else names)
    can_compile, why = _compile(spec, hardware)
    compiled = choices.choose("compile", spec.compile, can_compile, why)
    args = common_args(spec) | {"enforce_eager": not compiled}
    args |= lora_args(spec, spare_slot=False)
    choices.note_adapters(spec)
    unified = any(gpu.unified for gpu in gpus)
    args["enable_sleep_mode"] = choices.choose(
        "sleeps",
        spec.sleeps,
        not unified,
        "its memory is the system's" if unified else "it wakes up sooner than it could be loaded",
    )
    claim = _claim(spec, hardware, budget, gpus, rest)
    if claim.kv_cache is not None:
        args["kv_cache_memory_bytes"] = choices.choose(
            "kv_cache_bytes", claim.kv_cache, 0, "registry"
        )
    args["gpu_memory_utilization"] = choices.choose(
        "gpu_memory_utilization", spec.gpu_memory_utilization, claim.share, claim.why
    )
    if spec.executor is not None:
        executor = choices.choose("executor", spec.executor, "uni", "registry")
        args["distributed_executor_backend"] = UNIPROC if executor == "uni" else executor
    start = choices.choose(
        "start_method", start_method(spec, compiled), "spawn", "CUDA needs a fresh process"
    )
    return EnginePlan(
        device="cuda",
        threads=0,
        compile=compiled,
        start_method=start,
        engine_args=args | dict(spec.extra),
        choices=tuple(choices.made),
        need=claim.need,
        kv_tokens=None if claim.kv_cache is None else claim.kv_cache // kv_token_bytes(spec),
        free=min(gpu.memory_free for gpu in gpus),
        place=", ".join(f"GPU {gpu.index}" for gpu in gpus),
        devices=tuple(devices) if devices else None,
        visible=visible(gpus) if devices else None,
    )


def _compile(spec: EngineSpec, hardware: Hardware) -> tuple[bool, str]:
    """Whether to compile, and why: Triton's launchers are built while the model is loaded."""
    if lacks := hardware.gpu_compile_lacks:
        return False, f"{lacks} for Triton's launchers"
    if spec.start_method in FORKS:
        return False, "a forked process cannot"
    return True, "a C compiler and Python.h are there"


def _claim(
    spec: EngineSpec,
    hardware: Hardware,
    budget: Mapping[str, int],
    gpus: Sequence[Gpu],
    rest: Rest | None,
) -> _Claim:
    """What it takes, and what vLLM is told so that it takes that.

    vLLM 0.32 uses the share twice (v1/worker/gpu_worker.py). ``init_device`` refuses to start where
    that share of the *whole* memory is not free (``request_memory`` in v1/worker/utils.py), then
    ``determine_available_memory`` makes the KV cache of what is left of it. With
    ``kv_cache_memory_bytes`` the second is left out and the first is not: with vLLM's own 0.92 a
    small engine would be refused beside any other process. So it asks for what this engine takes.
    That neither reserves nor limits anything: where the estimate is low, CUDA finds out.
    """
    smallest = min(gpu.memory_total for gpu in gpus)
    kv_cache = _said_kv_cache(spec)
    if kv_cache is not None:
        need = cuda_need(spec, kv_cache, rest=rest)
        share = math.ceil(100 * need.resident / smallest) / 100
        why = f"weights, KV cache and {need.overhead / GIB:.3g} GiB besides"
        return _Claim(need, min(share, MEMORY_SHARE), why, kv_cache)
    if spec.gpu_memory_utilization is not None:
        largest = max(gpu.memory_total for gpu in hardware.gpus)
        whole = int(spec.gpu_memory_utilization * largest)
        return _Claim(_exclusive(spec, whole), spec.gpu_memory_utilization, "registry", None)
    whole = _whole_share(spec, hardware, budget)
    # The small number is for a share of 0.9, of which whole bytes are a little less.
    share = max(0.01, math.floor(100 * whole / smallest + 1e-6) / 100)
    if any(gpu.unified for gpu in gpus):
        why = "of the system's memory, what is there for models"
    elif share < MEMORY_SHARE:
        why = "what is there for models; vLLM sizes the KV cache"
    else:
        why = "vLLM sizes the KV cache"
    return _Claim(_exclusive(spec, whole), share, why, None)


def _whole_share(spec: EngineSpec, hardware: Hardware, budget: Mapping[str, int]) -> int:
    """Bytes of each GPU for an engine that takes all it is given.

    The same wherever it is put: on GPUs of different sizes, what the smallest ones have on which
    the model can run at all.
    """
    sizes = [
        min(int(MEMORY_SHARE * gpu.memory_total), budget.get(f"gpu{number}", 0))
        for number, gpu in enumerate(hardware.gpus)
    ]
    count = min(spec.workers, len(sizes))
    windows = sorted(min(sizes[first:][:count]) for first in range(len(sizes) - count + 1))
    one_context = kv_bytes(spec, spec.max_model_len, CUDA_BLOCK_TOKENS)
    least = cuda_need(spec, one_context).resident
    return next((size for size in windows if size >= least), windows[-1])


def _exclusive(spec: EngineSpec, whole: int) -> Need:
    """All of ``whole``: what weights and the rest leave of it is KV cache."""
    least = cuda_need(spec, 0)
    return cuda_need(spec, max(0, whole - least.resident))


def _said_kv_cache(spec: EngineSpec) -> int | None:
    if spec.kv_cache_tokens is None:
        return spec.kv_cache_bytes
    return kv_bytes(spec, spec.kv_cache_tokens, block_tokens(spec.extra, CUDA_BLOCK_TOKENS))
