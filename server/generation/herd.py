"""Registry entries, their formatters and the engines behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from server.engines.base import Engine, EngineSpec
from server.engines.lora_args import room_for
from server.engines.pool import RETRY_AFTER_S, EngineSlot, Report, SlotState
from server.errors import SourceError
from server.generation.adapters import HostedAdapter, begin_finding, known_ranks, preload, room
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from server.registry.inspect import ModelInfo, describe_model, resolve_context_length
from server.registry.progress import Progress
from server.registry.schema import ModelEntry, Registry
from server.registry.sources import ModelStore

# Makes and starts the engine of a spec; `Report` is told what it is doing.
EngineFactory = Callable[[EngineSpec, Report], Awaitable[Engine]]
# A progress display for one model's files.
ProgressFactory = Callable[[str], Progress]

# Downloads take hours: in the default threads a few of them would hold up everything else there.
_FETCHERS = ThreadPoolExecutor(32, thread_name_prefix="fetch")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What is known once a model's files are on disk."""

    directory: Path
    info: ModelInfo
    tokenizer: PromptTokenizer


class Weights:
    """The files behind one or more entries, fetched once."""

    def __init__(self, entry: ModelEntry, store: ModelStore, progress: ProgressFactory) -> None:
        self._entry = entry
        self._store = store
        self._progress = progress
        self._fetching: asyncio.Task[ModelFiles] | None = None
        self._files: ModelFiles | None = None
        self._failure = ""
        self._retry_at = 0.0

    @property
    def known(self) -> ModelFiles | None:
        """The files if they have been fetched."""
        return self._files

    async def files(self) -> ModelFiles:
        """Fetch, verify and prepare where needed; who stops waiting stops nothing else.

        Raises:
            SourceError: They cannot be had; not tried again for a moment.
        """
        if self._files is not None:
            return self._files
        if self._fetching is None:
            if time.monotonic() < self._retry_at:
                raise SourceError(self._failure)
            self._fetching = asyncio.create_task(self._fetch())
            # All who waited may have left.
            self._fetching.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._fetching)

    async def directory(self) -> Path:
        """The files' folder, as `files`."""
        return (await self.files()).directory

    async def _fetch(self) -> ModelFiles:
        try:
            loop = asyncio.get_running_loop()
            self._files = await loop.run_in_executor(_FETCHERS, self._prepare)
        except SourceError as error:
            self._failure, self._retry_at = str(error), time.monotonic() + RETRY_AFTER_S
            raise
        finally:
            self._fetching = None
        return self._files

    def _prepare(self) -> ModelFiles:
        directory = self._store.prepare(self._entry.source, self._progress(self._entry.id))
        return ModelFiles(
            directory, describe_model(directory), PromptTokenizer.from_directory(directory)
        )


class HostedModel:
    """One registry entry, ready to render, with the engine that it may share with others.

    Args:
        entry: The registry entry.
        weights: Its files.
        slot: Its engine.
        adapter: What it puts on the weights, or None.
    """

    def __init__(
        self,
        entry: ModelEntry,
        weights: Weights,
        slot: EngineSlot,
        adapter: HostedAdapter | None = None,
    ) -> None:
        self.entry = entry
        self.slot = slot
        self.adapter = adapter
        self._weights = weights
        self._formatter: Formatter | None = None

    @property
    def state(self) -> SlotState:
        """The engine's state, unless this model's own adapter cannot be used."""
        state = self.slot.state
        if self.adapter is None or not self.adapter.failure:
            return state
        return replace(
            state, status="failed", detail=self.adapter.failure, since=self.adapter.failed_at
        )

    async def formatter(self) -> Formatter:
        """The formatter of this entry; fetches the tokenizer where needed."""
        if self._formatter is None:
            files = await self._weights.files()
            self._formatter = Formatter(
                get_format(self.entry.template),
                files.tokenizer,
                history=self.entry.history,
                default_system=self.entry.system,
            )
        return self._formatter

    @property
    def context_length(self) -> int:
        """Longest prompt + completion in tokens; 0 before the files are there."""
        files = self._weights.known
        return 0 if files is None else resolve_context_length(self.entry, files.info)

    @property
    def vocab_size(self) -> int:
        """Token ids the model itself knows; 0 before the files are there."""
        files = self._weights.known
        return 0 if files is None else files.info.vocab_size


class Herd:
    """Every model of a registry.

    Args:
        registry: What there is.
        store: Where model files come from.
        make_engine: Makes and starts engines.
        progress: Draws the progress of fetching.
    """

    def __init__(
        self,
        registry: Registry,
        store: ModelStore,
        make_engine: EngineFactory,
        progress: ProgressFactory,
    ) -> None:
        self.registry = registry
        self._make_engine = make_engine
        self._models: dict[str, HostedModel] = {}
        self._preloading: set[asyncio.Task[None]] = set()
        weights_by_source: dict[str, Weights] = {}
        for key, entries in registry.engine_groups().items():
            weights = weights_by_source.setdefault(key.source, Weights(entries[0], store, progress))
            adapters = {
                entry.id: HostedAdapter(entry, store.adapters, progress, weights.directory)
                for entry in entries
                if entry.adapter is not None
            }
            slot = self._slot(entries, weights, adapters)
            for entry in entries:
                self._models[entry.id] = HostedModel(entry, weights, slot, adapters.get(entry.id))

    def resolve(self, name: str) -> HostedModel:
        """The model with this id or alias.

        Raises:
            ModelNotFound: There is none.
        """
        return self._models[self.registry.resolve(name).id]

    def models(self) -> list[HostedModel]:
        """All models, in the order of the registry."""
        return [self._models[entry.id] for entry in self.registry.models]

    def load_at_startup(self) -> list[asyncio.Task[Engine]]:
        """Begin loading every engine that some entry wants at start."""
        wanted = {
            model.slot.name: model.slot for model in self.models() if model.entry.load == "startup"
        }
        return [slot.begin_loading() for slot in wanted.values()]

    async def close(self) -> None:
        """Stop every engine."""
        for task in self._preloading:
            task.cancel()
        slots = {id(model.slot): model.slot for model in self.models()}
        await asyncio.gather(*(slot.close() for slot in slots.values()))

    def _slot(
        self, entries: list[ModelEntry], weights: Weights, adapters: Mapping[str, HostedAdapter]
    ) -> EngineSlot:
        async def load(report: Report) -> Engine:
            report("fetching the model's files")
            finding = begin_finding(adapters.values())
            files = await weights.files()
            spec = engine_spec(entries, files, await known_ranks(finding))
            report("starting the engine")
            engine = await self._make_engine(spec, report)
            try:
                # What the registry says of parsers is found wrong now, not by some later request.
                for name in {entry.tool_parser for entry in entries if _needs_parser(entry)}:
                    await engine.output_format(name)
            except BaseException:
                await engine.stop()
                raise
            at_start = [adapters[e.id] for e in entries if e.adapter and e.load == "startup"]
            task = asyncio.create_task(preload(at_start, engine, spec.max_adapters))
            self._preloading.add(task)
            task.add_done_callback(self._preloading.discard)
            return engine

        return EngineSlot(entries[0].id, load)


def _needs_parser(entry: ModelEntry) -> bool:
    return entry.tool_parser is not None or entry.reasoning_parser is not None


def engine_spec(
    entries: list[ModelEntry], files: ModelFiles, ranks: Sequence[int] = ()
) -> EngineSpec:
    """What the engine that ``entries`` share must host: the longest of their contexts.

    Args:
        ranks: Of those of its adapters that are known.
    """
    settings = entries[0].engine
    info = files.info
    number_bytes = 4 if settings.dtype == "float32" else 2
    max_adapters, max_rank = room(entries, ranks)
    return EngineSpec(
        name=entries[0].id,
        model_dir=files.directory,
        max_model_len=max(resolve_context_length(entry, info) for entry in entries),
        weight_bytes=info.weight_bytes,
        kv_bytes_per_token=info.kv_bytes_per_token(number_bytes),
        architecture=info.architecture,
        dtype=settings.dtype,
        quantization=settings.quantization,
        kv_cache_bytes=settings.kv_cache,
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
        reasoning_parser=entries[0].reasoning_parser,
        embeds=entries[0].kind == "embedding",
        max_adapters=max_adapters,
        max_adapter_rank=max_rank,
        adapter_bytes=room_for(max_rank) * info.linear_width * number_bytes,
        extra=settings.extra,
    )
