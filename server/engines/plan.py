"""Which engine settings use this machine: every choice with its reason.

Figures behind the choices are in benchmarks/RESULTS.md; what the registry sets always wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from server.engines import measured
from server.engines.choices import Choice, EnginePlan
from server.engines.cpu_plan import plan_cpu
from server.engines.cuda_plan import plan_cuda
from server.engines.hardware import Hardware
from server.engines.ledger import RAM
from server.engines.measured import Measured
from server.engines.memory import budgets
from server.engines.need import (
    CPU_BLOCK_TOKENS,
    CUDA_BLOCK_TOKENS,
    MIB,
    block_tokens,
    kv_bytes,
    kv_token_bytes,
)
from server.engines.spec import EngineSpec
from server.errors import EngineDied

__all__ = ["Choice", "EnginePlan", "check_free", "plan_engine"]


def plan_engine(
    spec: EngineSpec,
    hardware: Hardware,
    *,
    budget: Mapping[str, int] | None = None,
    devices: Sequence[str] | None = None,
    known: Measured | None = None,
) -> EnginePlan:
    """Decide how ``spec`` runs on ``hardware``.

    What it needs does not depend on what happens to be free: the same engine with the same budget
    always needs the same, until it has been measured.

    Args:
        budget: Device → bytes that engines may hold of it; None: `memory.budgets`.
        devices: The GPUs that it is to run on, such as ``gpu0``; None: not decided yet.
        known: What engines took that were loaded before.

    Raises:
        EngineDied: What the registry says cannot be; the message says why.
    """
    if budget is None:
        budget = budgets(hardware)
    about = "" if known is None else measured.about(spec, hardware)
    rest = None if known is None else known.rest(about)
    if hardware.gpus:
        plan = plan_cuda(spec, hardware, budget, rest, devices)
    else:
        plan = plan_cpu(spec, hardware, budget.get(RAM, 0), rest)
    _check_kv_cache(spec, plan)
    return replace(plan, need=replace(plan.need, about=about))


def check_free(name: str, plan: EnginePlan) -> None:
    """Refuse to start what would have to be killed for want of memory.

    The ledger has found room for it among engines; this is about everybody else.

    Raises:
        EngineDied: By how much it does not fit into what is free.
    """
    lacking = plan.need.peak - plan.free
    if lacking > 0:
        raise EngineDied(
            f"'{name}' does not fit into what is free of {plan.place} now: it takes "
            f"{_mib(plan.need.peak)} MiB and {_mib(lacking)} MiB are missing, which other programs "
            "hold. End some, set a smaller context.length or engine.kv_cache in the registry, or "
            "choose a smaller model."
        )


def _check_kv_cache(spec: EngineSpec, plan: EnginePlan) -> None:
    """A context that a KV cache of a set size cannot hold would never be computed."""
    said = plan.engine_args.get("kv_cache_memory_bytes")
    # Only vLLM knows what less a sliding window, or another format of the cache, takes.
    if said is None or spec.sliding_window or "kv_cache_dtype" in spec.extra:
        return
    block = block_tokens(
        spec.extra, CPU_BLOCK_TOKENS if plan.device == "cpu" else CUDA_BLOCK_TOKENS
    )
    least = kv_bytes(spec, spec.max_model_len, block)
    if said < least:
        holds = max(0, said // kv_token_bytes(spec) // block - 1) * block
        raise EngineDied(
            f"'{spec.name}' has an engine.kv_cache of {_mib(said)} MiB in the registry, which "
            f"holds {holds} tokens, and its context has {spec.max_model_len} ({_mib(least)} MiB). "
            "Set at least that, or a smaller context.length, or leave it out."
        )


def _mib(size: int) -> int:
    """Rounded up."""
    return -(-size // MIB)
