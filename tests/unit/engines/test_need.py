"""What engines take, by sums that can be done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.engines.need import (
    COORDINATOR_BYTES,
    CUDA_OVERHEAD_BYTES,
    FORKED_BYTES,
    MIB,
    SPAWNED_BYTES,
    Rest,
    cpu_need,
    cuda_need,
    kv_bytes,
    kv_token_bytes,
)
from server.engines.spec import EngineSpec, Shape

# Llama 3 8B.
SHAPE = Shape(
    layers=32, hidden=4096, inner=14336, query=4096, kv_heads=8, head=128, vocabulary=128256
)
WEIGHTS = 16_060_522_496
MATRIX = 128256 * 4096 * 2
# 2,048 tokens with three inner rows and six outer ones, and 36 bytes a logit of 128 sequences.
STEP = 2048 * (3 * 14336 + 6 * 4096) * 2 + 36 * 128 * 128256


def spec(**fields: Any) -> EngineSpec:
    basics = {
        "name": "m",
        "model_dir": Path("/m"),
        "max_model_len": 8192,
        "weight_bytes": WEIGHTS,
        "kv_bytes_per_token": 2 * 32 * 8 * 128 * 2,
        "shape": SHAPE,
    }
    return EngineSpec(**basics | fields)


def test_a_cpu_engine() -> None:
    need = cpu_need(spec(), 1 << 30, apart=False, forked=True)
    assert need.weights == WEIGHTS + MATRIX, "the output matrix is there twice"
    assert (need.kv_cache, need.adapters, need.loading, need.devices) == (1 << 30, 0, 0, 1)
    assert need.headroom == 48 * MIB + STEP
    assert need.overhead == FORKED_BYTES + need.headroom
    assert need.peak == need.resident == WEIGHTS + MATRIX + (1 << 30) + need.overhead
    spawned = cpu_need(spec(), 1 << 30, apart=False, forked=False)
    assert spawned.overhead - need.overhead == SPAWNED_BYTES - FORKED_BYTES


def test_files_that_are_read_whole() -> None:
    """Before there is a KV cache; so it is more than later only for large files."""
    small = cpu_need(spec(read_bytes=MATRIX + 5), 5, apart=False, forked=True)
    assert (small.loading, small.peak) == (0, small.resident)
    large = cpu_need(spec(read_bytes=MATRIX + 12), 5, apart=False, forked=True)
    assert (large.loading, large.peak) == (7, large.resident + 7)
    two = spec(read_bytes=MATRIX + 12, tensor_parallel_size=2)
    assert cpu_need(two, 5, apart=True, forked=True).loading == 2 * (MATRIX + 7) - MATRIX


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"max_num_batched_tokens": 512}, 512 * 67584 * 2 + 36 * 128 * 128256),
        ({"max_num_seqs": 4}, 2048 * 67584 * 2 + 36 * 4 * 128256),
        ({"max_num_seqs": 600, "max_num_batched_tokens": 512}, 512 * 67584 * 2 + 36 * 512 * 128256),
        ({"dtype": "float32"}, 2048 * 67584 * 4 + 36 * 128 * 128256),
        # A text to be embedded is computed at once, and has no logits.
        ({"embeds": True}, 8192 * 67584 * 2),
        ({"shape": Shape()}, 0),
    ],
)
def test_the_largest_step(fields: dict[str, Any], step: int) -> None:
    need = cpu_need(spec(**fields), 0, apart=False, forked=True)
    assert need.headroom == 48 * MIB + step


def test_workers_share_the_weights_and_each_has_the_rest() -> None:
    parts = spec(tensor_parallel_size=2, pipeline_parallel_size=2)
    need = cpu_need(parts, 1 << 30, apart=True, forked=True)
    # The first stage packs its embeddings, the last the output matrix.
    assert need.weights == WEIGHTS + 2 * MATRIX
    assert need.kv_cache == 4 << 30
    step = 2048 * (3 * 14336 // 2 + 6 * 4096) * 2 + 36 * 128 * 128256
    assert need.headroom == 48 * MIB + 4 * step
    assert need.overhead == 4 * FORKED_BYTES + COORDINATOR_BYTES + need.headroom


def test_a_gpu_engine_takes_so_much_of_each() -> None:
    need = cuda_need(spec(), 1 << 30)
    assert (need.weights, need.kv_cache, need.devices) == (WEIGHTS, 1 << 30, 1)
    assert (need.overhead, need.headroom) == (CUDA_OVERHEAD_BYTES, STEP)
    four = cuda_need(spec(tensor_parallel_size=4), 1 << 30)
    assert (four.weights, four.kv_cache, four.devices) == (WEIGHTS // 4, 1 << 30, 4)
    assert cuda_need(spec(weight_bytes=7, tensor_parallel_size=2), 0).weights == 4


@pytest.mark.parametrize(
    ("rest", "overhead"),
    [
        (Rest(ready=400 * MIB, most=400 * MIB), 400 * MIB + 48 * MIB + STEP),
        (Rest(ready=400 * MIB, most=5000 * MIB), 5000 * MIB),
    ],
)
def test_what_was_measured_counts(rest: Rest, overhead: int) -> None:
    need = cpu_need(spec(), 0, apart=False, forked=True, rest=rest)
    assert need.overhead == overhead
    gpu = cuda_need(spec(), 0, rest=rest)
    assert gpu.overhead == max(rest.ready + STEP, rest.most)


@pytest.mark.parametrize(
    ("tp", "pp", "size"),
    [
        (1, 1, 131072),
        (2, 1, 65536),
        (2, 2, 32768),
        # 8 heads for 16 workers: each has one, and half of them the same.
        (16, 1, 16384),
        # 32 layers in three stages: 11 at most.
        (1, 3, 2 * 11 * 8 * 128 * 2),
    ],
)
def test_a_tokens_share_of_the_kv_cache(tp: int, pp: int, size: int) -> None:
    parts = spec(tensor_parallel_size=tp, pipeline_parallel_size=pp)
    assert kv_token_bytes(parts) == size
    # Without the shape it is divided by all.
    assert kv_token_bytes(spec(shape=Shape(), tensor_parallel_size=3)) == -(-131072 // 3)


def test_a_cache_is_made_of_blocks_and_one_is_vllms() -> None:
    assert kv_bytes(spec(), 8192, 128) == (8192 + 128) * 131072
    assert kv_bytes(spec(), 8193, 128) == (8192 + 256) * 131072
    assert kv_bytes(spec(), 1, 16) == 32 * 131072
