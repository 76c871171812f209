"""What an engine takes in bytes, reckoned before it starts. Sums alone: nothing is looked at.

Where the figures come from: benchmarks/RESULTS.md, "Memory of an engine".
"""

from __future__ import annotations

from server.engines.base import EngineSpec
from server.engines.ledger import Need

MIB = 1 << 20
GIB = 1 << 30
# What a CPU worker takes besides weights and KV cache: Python, torch, activations.
CPU_OVERHEAD_BYTES = GIB
# The same on a GPU: the CUDA context, activations of the largest step, logits of every sequence,
# CUDA graphs. An estimate for models of 7B to 13B.
CUDA_OVERHEAD_BYTES = 2 * GIB


def workers(spec: EngineSpec) -> int:
    """Processes, or GPUs, that share the model."""
    return spec.tensor_parallel_size * spec.pipeline_parallel_size


def adapter_bytes(spec: EngineSpec) -> int:  # noqa: ARG001
    """Room for LoRA adapters."""
    return 0


def cpu_need(spec: EngineSpec, kv_cache: int, overhead: int | None = None) -> Need:
    """What all workers of an engine take of the RAM together.

    Args:
        kv_cache: Each worker's KV cache.
        overhead: What was measured before instead of the estimate, all workers together.
    """
    parts = workers(spec)
    return Need(
        weights=spec.weight_bytes,
        kv_cache=parts * kv_cache,
        adapters=adapter_bytes(spec),
        overhead=parts * CPU_OVERHEAD_BYTES if overhead is None else overhead,
        # As read from the files, and as packed for the GEMM library; the KV cache comes later.
        loading=max(0, spec.weight_bytes - parts * kv_cache),
    )


def cuda_need(spec: EngineSpec, kv_cache: int, overhead: int | None = None) -> Need:
    """What an engine takes of each of its GPUs.

    Args:
        kv_cache: The KV cache on each.
        overhead: What was measured before instead of the estimate, on each.
    """
    parts = workers(spec)
    return Need(
        weights=-(-spec.weight_bytes // parts),
        kv_cache=kv_cache,
        adapters=adapter_bytes(spec),
        overhead=CUDA_OVERHEAD_BYTES if overhead is None else overhead,
        devices=parts,
    )
