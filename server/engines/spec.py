"""What an engine hosts: a model, and adapters beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Widths of a model, for sums of what its steps take; 0 where unknown.

    Args:
        layers: Number of layers.
        hidden: Width of the layers.
        inner: Width inside the feed-forward part.
        query: Width of all query heads together.
        kv_heads: Heads of the KV cache.
        head: Width of one of them.
        vocabulary: Tokens it knows.
    """

    layers: int = 0
    hidden: int = 0
    inner: int = 0
    query: int = 0
    kv_heads: int = 0
    head: int = 0
    vocabulary: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What an engine is asked to host. ``None`` means: chosen at load by `plan.plan_engine`.

    Args:
        name: For logs and errors; the id of the first registry entry that uses the engine.
        model_dir: Directory with safetensors, config.json and a tokenizer.
        max_model_len: Longest prompt + completion, in tokens.
        weight_bytes: Size of the weights in memory.
        kv_bytes_per_token: KV cache bytes that one token of context takes, all layers.
        architecture: The Hugging Face class name, such as ``LlamaForCausalLM``.
        shape: The model's widths.
        read_bytes: What reading the weights takes besides, while it loads (CPU only).
        sliding_window: Its KV cache takes less than ``kv_bytes_per_token`` says.
        kv_cache_bytes: KV cache size, of each worker.
        kv_cache_tokens: The same in tokens of context.
        threads: OpenMP threads of each worker (CPU only).
        binding: CPUs the workers run on (CPU only): ``none``, ``cores`` or numbers as in ``0-3,8``.
        compile: True to use torch.compile (and CUDA graphs on a GPU).
        executor: ``uni`` runs the model in the engine's process, ``mp`` in processes of its own.
        start_method: How the engine's process is made.
        sleeps: It is to give a GPU's memory back while it is idle, and take it again.
        reasoning_parser: vLLM's name for how the model writes its reasoning, or None.
        embeds: The model turns texts into vectors instead of continuing them.
        max_adapters: Most adapters held at the same time; 0: the engine takes none.
        max_adapter_rank: Largest rank that one may have.
        adapter_bytes: What one of that rank takes at most, in memory.
        extra: Further vLLM ``AsyncEngineArgs`` by name, handed on as they are.
    """

    name: str
    model_dir: Path
    max_model_len: int
    weight_bytes: int
    kv_bytes_per_token: int
    architecture: str = ""
    shape: Shape = Shape()
    read_bytes: int = 0
    sliding_window: bool = False
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_bytes: int | None = None
    kv_cache_tokens: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    compile: bool | None = None
    threads: int | None = None
    binding: str | None = None
    executor: Literal["uni", "mp", "ray"] | None = None
    start_method: Literal["forkserver", "fork", "spawn"] | None = None
    prefix_caching: bool | None = None
    sleeps: bool | None = None
    reasoning_parser: str | None = None
    embeds: bool = False
    max_adapters: int = 0
    max_adapter_rank: int = 16
    adapter_bytes: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def workers(self) -> int:
        """Processes, or GPUs, that share the model."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one number in weights and KV cache."""
        return 4 if self.dtype == "float32" else 2


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter whose files are here and will not change.

    Args:
        name: For errors: the id of the model that it makes.
        directory: Holds adapter_config.json and adapter_model.safetensors.
        digest: SHA-256 of the two, in hex. Adapters of equal digests are one.
        rank: The largest rank of its layers.
        bytes: Its tensors' size.
    """

    name: str
    directory: Path
    digest: str
    rank: int
    bytes: int
