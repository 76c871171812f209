"""How an engine runs on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.engines.binding import Binding, bind_workers
from server.engines.choices import (
    FORKS,
    UNIPROC,
    Choice,
    Choices,
    EnginePlan,
    common_args,
    start_method,
)
from server.engines.hardware import Hardware
from server.engines.ledger import Need
from server.engines.lora_args import lora_args, refuse_compiled_adapters
from server.engines.need import (
    CPU_BLOCK_TOKENS,
    Rest,
    block_tokens,
    cpu_need,
    kv_bytes,
    kv_token_bytes,
)
from server.engines.spec import EngineSpec

KV_SHARE = 0.25
KV_MAX_CONTEXTS = 8


def plan_cpu(spec: EngineSpec, hardware: Hardware, budget: int, rest: Rest | None) -> EnginePlan:
    """Decide it.

    Args:
        budget: Bytes of RAM that engines may hold.
        rest: What was measured of an engine like this one.
    """
    choices = Choices()
    refuse_compiled_adapters(spec)
    choices.choose("device", None, "cpu", hardware.no_gpu)
    choices.note_adapters(spec)
    compiled = choices.choose(
        "compile", spec.compile, False, "eager starts in seconds and is as fast for LLaMA here"
    )
    alone = spec.workers == 1
    executor = choices.choose(
        "executor",
        spec.executor,
        "uni" if alone else "mp",
        "no second process to wait for" if alone else "a process for each part of the model",
    )
    start = choices.choose(
        "start_method",
        start_method(spec, compiled),
        "spawn" if compiled else "forkserver",
        "torch.compile needs a fresh process" if compiled else "forked from a prepared process",
    )
    apart, forked = executor != "uni", start in FORKS
    least = cpu_need(spec, 0, apart=apart, forked=forked)
    kv_cache = choices.choose(
        "kv_cache_bytes",
        _said_kv_cache(spec),
        _default_kv_cache(spec, hardware, budget, least),
        f"up to {KV_MAX_CONTEXTS} full contexts within a quarter of what is left for models",
    )
    need = cpu_need(spec, kv_cache, apart=apart, forked=forked, rest=rest)
    binding = bind_workers(spec, hardware, spec.workers, need.peak // spec.workers)
    threads = choices.choose(
        "threads",
        spec.threads,
        max(1, min([hardware.cores // spec.workers, *map(len, binding.cpus)])),
        "one a physical core; fewer while others are busy",
    )
    choices.made.append(Choice("binding", str(binding), binding.reason))
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
        engine_args=_told_workers(common_args(spec) | args | dict(spec.extra), threads, binding),
        choices=tuple(choices.made),
        need=need,
        kv_tokens=kv_cache // kv_token_bytes(spec),
        free=binding.memory * spec.workers,
        place=f"the memory beside CPUs {binding}" if binding.cpus else "this machine",
    )


def _told_workers(args: Mapping[str, Any], threads: int, binding: Binding) -> dict[str, Any]:
    """``args`` with what our worker cannot start without, beside what the registry puts there."""
    ours = {"corral_threads": threads, "corral_cpus": [list(cpus) for cpus in binding.cpus]}
    return {**args, "additional_config": {**args.get("additional_config", {}), **ours}}


def _said_kv_cache(spec: EngineSpec) -> int | None:
    if spec.kv_cache_tokens is None:
        return spec.kv_cache_bytes
    return kv_bytes(spec, spec.kv_cache_tokens, block_tokens(spec.extra, CPU_BLOCK_TOKENS))


def _default_kv_cache(spec: EngineSpec, hardware: Hardware, budget: int, least: Need) -> int:
    """Bytes for each worker's KV cache: many full contexts, but a modest part of the budget.

    Args:
        least: What the engine takes without one.
    """
    one_context = kv_bytes(spec, spec.max_model_len, block_tokens(spec.extra, CPU_BLOCK_TOKENS))
    # Where it fits into the memory of one NUMA node it is to stay there.
    parts = max(1, len(hardware.nodes) // spec.workers) if spec.binding != "none" else 1
    node = budget // parts
    if least.peak + spec.workers * one_context <= node:
        budget = node
    room = max(0, budget - least.peak) // spec.workers
    return max(one_context, min(int(room * KV_SHARE), KV_MAX_CONTEXTS * one_context))
