"""KV cache blocks that begin empty, in engines that hold adapters.

A CPU's attention multiplies what stands in a block behind a sequence's end by zero, and zero times
what is no number is no number. After an adapter whose numbers overflow, whoever got its blocks
next, with another adapter or with none, was answered rubbish too. vLLM 0.32 can empty blocks, which
it does for other reasons (``KVCacheConfig.needs_kv_cache_zeroing``).
"""

from __future__ import annotations


def empty_new_ones() -> None:
    """Have this process, an engine's, empty each block when a sequence gets it."""
    from vllm.v1.kv_cache_interface import KVCacheConfig

    KVCacheConfig.needs_kv_cache_zeroing = property(lambda _: True)
