"""What an engine takes in bytes, reckoned before it starts. Sums alone: nothing is looked at.

Where the constants come from: "Memory of an engine" in benchmarks/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.engines.ledger import Need
from server.engines.lora_args import adapters_bytes
from server.engines.spec import EngineSpec

MIB = 1 << 20
GIB = 1 << 30
# A process on a CPU with Python, torch and vLLM in it, besides weights and KV cache; one that was
# forked from the prepared process shares a part of it.
FORKED_BYTES = 576 * MIB
SPAWNED_BYTES = 704 * MIB
# The engine's own process where its workers have processes of their own.
COORDINATOR_BYTES = 384 * MIB
# What its heap grows by while it serves, besides the activations of a step.
_HEAP_BYTES = 48 * MIB
# A GPU worker besides weights and KV cache: CUDA's context and kernels, activations of the largest
# step, logits of every sequence, CUDA graphs. An estimate for models of 7B to 13B.
CUDA_OVERHEAD_BYTES = 2 * GIB
# What its process takes of the RAM: Python, PyTorch, CUDA's libraries and pinned buffers. An
# estimate until it has been loaded.
CUDA_HOST_BYTES = 2 * GIB
# What vLLM 0.32 takes where nobody says otherwise (config/scheduler.py).
_BATCH_TOKENS = 2048
_SEQUENCES = 128
# A logit in 32 bits, and what is made of it while a token is drawn: softmax, noise, and for top_p
# the sorted ones, their places and sums.
_LOGIT_BYTES = 9 * 4
CPU_BLOCK_TOKENS = 128
CUDA_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Rest:
    """What was measured of an engine like this one: all it held but weights, KV cache, adapters.

    Args:
        ready: Bytes when it had been loaded.
        most: The most that was ever seen.
    """

    ready: int
    most: int

    def overhead(self, headroom: int) -> int:
        """What the next such engine is to be counted with.

        Args:
            headroom: What only the largest steps take.
        """
        return max(self.ready + headroom, self.most)


def kv_token_bytes(spec: EngineSpec) -> int:
    """Bytes of KV cache that a token takes in each worker."""
    shape, parts = spec.shape, spec.workers
    if not (shape.layers and shape.kv_heads and shape.head) or parts == 1:
        return -(-spec.kv_bytes_per_token // parts)
    layers = -(-shape.layers // spec.pipeline_parallel_size)
    # Workers that outnumber the heads have a copy each.
    heads = max(1, shape.kv_heads // spec.tensor_parallel_size)
    return 2 * layers * heads * shape.head * spec.dtype_bytes


def kv_bytes(spec: EngineSpec, tokens: int, block: int) -> int:
    """Bytes of each worker's KV cache that holds so many tokens; vLLM keeps a block for itself.

    Args:
        block: Tokens of a block, of which the cache is made.
    """
    return (-(-tokens // block) + 1) * block * kv_token_bytes(spec)


def cpu_need(
    spec: EngineSpec, kv_cache: int, *, apart: bool, forked: bool, rest: Rest | None = None
) -> Need:
    """What all workers of an engine take of the RAM together.

    Args:
        kv_cache: Each worker's KV cache; vLLM fills it with zeros, so all of it is there at once.
        apart: The workers have processes of their own beside the engine's.
        forked: They are forked from the prepared process.
        rest: What was measured before.
    """
    parts = spec.workers
    each = FORKED_BYTES if forked else SPAWNED_BYTES
    estimate = parts * each + (COORDINATOR_BYTES if apart else 0)
    headroom = _HEAP_BYTES + parts * _step_bytes(spec)
    packed = _packed_bytes(spec)
    return Need(
        weights=spec.weight_bytes + packed,
        kv_cache=parts * kv_cache,
        adapters=parts * adapters_bytes(spec, cpu=True),
        overhead=estimate + headroom if rest is None else rest.overhead(headroom),
        headroom=headroom,
        # The files are read before anything is packed and before there is a KV cache.
        loading=max(0, parts * (spec.read_bytes - kv_cache) - packed),
    )


def cuda_need(spec: EngineSpec, kv_cache: int, *, rest: Rest | None = None) -> Need:
    """What an engine takes of each of its GPUs.

    Args:
        kv_cache: The KV cache on each.
        rest: What was measured before.
    """
    headroom = _step_bytes(spec)
    return Need(
        weights=-(-spec.weight_bytes // spec.workers),
        kv_cache=kv_cache,
        adapters=adapters_bytes(spec, cpu=False),
        overhead=CUDA_OVERHEAD_BYTES if rest is None else rest.overhead(headroom),
        devices=spec.workers,
        headroom=headroom,
        host=CUDA_HOST_BYTES * spec.workers,
    )


def _packed_bytes(spec: EngineSpec) -> int:
    """A second copy of the output matrix, packed for products, beside the one that rows are taken
    of; layers are packed in place. The first stage of a pipeline packs its embeddings too."""
    matrix = spec.shape.vocabulary * spec.shape.hidden * spec.dtype_bytes
    return matrix * (2 if spec.pipeline_parallel_size > 1 else 1)


def _step_bytes(spec: EngineSpec) -> int:
    """Activations of the largest step of one worker."""
    shape = spec.shape
    # A text to be embedded is computed at once.
    least = spec.max_model_len if spec.embeds else 0
    tokens = spec.max_num_batched_tokens or max(_BATCH_TOKENS, least)
    row = 3 * shape.inner // spec.tensor_parallel_size + 6 * shape.hidden
    sequences = min(spec.max_num_seqs or _SEQUENCES, tokens)
    logits = 0 if spec.embeds else _LOGIT_BYTES * sequences * shape.vocabulary
    return tokens * row * spec.dtype_bytes + logits


def block_tokens(extra: Mapping[str, object], default: int) -> int:
    """Tokens of a block: what the registry hands to vLLM, else its default."""
    said = extra.get("block_size")
    return said if isinstance(said, int) and said > 0 else default
