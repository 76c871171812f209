"""How the engine that some registry entries share is described, and brought."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from server.engines.base import Engine
from server.engines.ledger import Need
from server.engines.lora_args import adapter_bytes
from server.engines.spec import EngineSpec, Shape
from server.engines.states import Report
from server.generation.adapters import HostedAdapter, begin_finding, known_ranks, preload, room
from server.generation.weights import ModelFiles, Weights
from server.registry.inspect import ModelInfo, resolve_context_length
from server.registry.schema import ModelEntry


class EngineMaker(Protocol):
    """Makes engines for this machine."""

    def budgets(self, said: int | Mapping[str, int] | None) -> Mapping[str, int]:
        """Device → bytes that all engines together may hold, where the registry says ``said``."""

    async def need(self, spec: EngineSpec) -> Need:
        """What memory the engine of a spec takes.

        Raises:
            EngineDied: It cannot run here; the message says why.
        """

    async def make(self, spec: EngineSpec, devices: tuple[str, ...], report: Report) -> Engine:
        """A started engine on these devices; ``report`` is told what is being done.

        Raises:
            EngineDied: It did not start; the message says why.
        """


class NoEngines:
    """An `EngineMaker` for who needs formatters alone."""

    def budgets(self, said: int | Mapping[str, int] | None) -> Mapping[str, int]:  # noqa: ARG002
        """Nothing is ever loaded."""
        return {}

    async def need(self, spec: EngineSpec) -> Need:
        """Nobody asks."""
        raise NotImplementedError

    async def make(self, spec: EngineSpec, devices: tuple[str, ...], report: Report) -> Engine:
        """Nobody asks."""
        raise NotImplementedError


class GroupLoader:
    """Loads the engine that some entries share (an `EngineLoader`).

    Attributes:
        entries: The entries.
        adapters: Those of them that put one on the weights, by id.
    """

    def __init__(
        self,
        entries: list[ModelEntry],
        weights: Weights,
        adapters: Mapping[str, HostedAdapter],
        maker: EngineMaker,
    ) -> None:
        self.entries = entries
        self.adapters = adapters
        self._weights = weights
        self._maker = maker
        self._spec: EngineSpec | None = None
        self._preloading: set[asyncio.Task[None]] = set()

    async def need(self, report: Report) -> Need:
        """See `EngineLoader.need`."""
        report("fetching the model's files")
        finding = begin_finding(self.adapters.values())
        files = await self._weights.files()
        self._spec = engine_spec(self.entries, files, await known_ranks(finding))
        return await self._maker.need(self._spec)

    async def load(self, devices: tuple[str, ...], report: Report) -> Engine:
        """See `EngineLoader.load`."""
        spec, entries = self._spec, self.entries
        assert spec is not None, "what it needs comes first"
        engine = await self._maker.make(spec, devices, report)
        try:
            # What the registry says of parsers is found wrong now, not by some later request.
            for name in {entry.tool_parser for entry in entries if needs_parser(entry)}:
                await engine.output_format(name)
        except BaseException:
            await engine.stop()
            raise
        at_start = [self.adapters[e.id] for e in entries if e.adapter and e.load == "startup"]
        task = asyncio.create_task(preload(at_start, engine, spec.max_adapters))
        self._preloading.add(task)
        task.add_done_callback(self._preloading.discard)
        return engine

    def close(self) -> None:
        """Load no further adapters."""
        for task in self._preloading:
            task.cancel()


def engine_spec(
    entries: list[ModelEntry], files: ModelFiles, ranks: Sequence[int] = ()
) -> EngineSpec:
    """What the engine that ``entries`` share must host: the longest of their contexts.

    Args:
        ranks: Of those of its adapters that are known.
    """
    settings = entries[0].engine
    info = files.info
    number = 4 if settings.dtype == "float32" else 2
    max_adapters, max_rank = room(entries, ranks)
    return EngineSpec(
        name=entries[0].id,
        model_dir=files.directory,
        max_model_len=max(resolve_context_length(entry, info) for entry in entries),
        weight_bytes=info.loaded_bytes(number),
        kv_bytes_per_token=info.kv_bytes_per_token(number),
        architecture=info.architecture,
        shape=_shape(info),
        read_bytes=info.read_bytes,
        sliding_window=info.sliding_window,
        dtype=settings.dtype,
        quantization=settings.quantization,
        kv_cache_bytes=settings.kv_cache.bytes if settings.kv_cache else None,
        kv_cache_tokens=settings.kv_cache.tokens if settings.kv_cache else None,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        compile=settings.compile,
        threads=settings.threads,
        binding=settings.binding,
        executor=settings.executor,
        start_method=settings.start_method,
        prefix_caching=settings.prefix_caching,
        sleeps=settings.sleeps,
        reasoning_parser=entries[0].reasoning_parser,
        embeds=entries[0].kind == "embedding",
        max_adapters=max_adapters,
        max_adapter_rank=max_rank,
        adapter_bytes=adapter_bytes(
            max_rank,
            linear_width=info.linear_width,
            vocab_size=info.vocab_size,
            architecture=info.architecture,
            number_bytes=number,
        ),
        extra=settings.extra,
    )


def _shape(info: ModelInfo) -> Shape:
    return Shape(
        layers=info.num_layers,
        hidden=info.hidden_size,
        inner=info.inner_size,
        query=info.num_heads * info.head_dim,
        kv_heads=info.num_kv_heads,
        head=info.head_dim,
        vocabulary=info.vocab_size,
    )


def needs_parser(entry: ModelEntry) -> bool:
    return entry.tool_parser is not None or entry.reasoning_parser is not None
