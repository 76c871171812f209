"""Registry entries, their formatters and the engines behind them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from server.engines.base import Engine, EngineSpec, Shape
from server.engines.ledger import Need
from server.engines.lora_args import room_for
from server.engines.pool import Pool, SwapPolicy
from server.engines.replicas import Replicas
from server.engines.slot import RETRY_AFTER_S, Report, SlotOptions, SlotState
from server.errors import SourceError
from server.generation.adapters import HostedAdapter, begin_finding, known_ranks, preload, room
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from server.registry.inspect import ModelInfo, describe_model, resolve_context_length
from server.registry.progress import Progress
from server.registry.schema import EngineKey, ModelEntry, Registry
from server.registry.sources import ModelStore
from server.registry.sources_schema import AdapterSource

# A progress display for one model's files.
ProgressFactory = Callable[[str], Progress]

# Downloads take hours: in the default threads a few of them would hold up everything else there.
_FETCHERS = ThreadPoolExecutor(32, thread_name_prefix="fetch")


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
        engines: Its engines.
        adapter: What it puts on the weights, or None.
    """

    def __init__(
        self,
        entry: ModelEntry,
        weights: Weights,
        engines: Replicas,
        adapter: HostedAdapter | None = None,
    ) -> None:
        self.entry = entry
        self.engines = engines
        self.adapter = adapter
        self._weights = weights
        self._formatter: Formatter | None = None

    @property
    def state(self) -> SlotState:
        """The engine's state, unless this model's own adapter cannot be used."""
        state = self.engines.state
        if self.adapter is None or not self.adapter.failure:
            return state
        return replace(
            state, status="failed", detail=self.adapter.failure, since=self.adapter.failed_at
        )

    def same_as(self, other: HostedModel) -> bool:
        """Whether ``other`` would do the same."""
        return (
            self.entry == other.entry
            and self.engines is other.engines
            and self.adapter is other.adapter
        )

    def puts(self, source: AdapterSource, weights: Weights) -> bool:
        """Whether it puts the adapter of this source on these weights."""
        return self.entry.adapter == source and self._weights is weights

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


class _Loader:
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
            for name in {entry.tool_parser for entry in entries if _needs_parser(entry)}:
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


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries that share engines.

    Args:
        room: Adapters that the engines have room for.
    """

    engines: Replicas
    loader: _Loader
    room: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new registry changed: ids of models."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class Herd:
    """Every model of a registry.

    Args:
        registry: What there is.
        store: Where model files come from.
        maker: Makes engines.
        progress: Draws the progress of fetching.
        pool: Decides which engines are loaded.
    """

    def __init__(
        self,
        registry: Registry,
        store: ModelStore,
        maker: EngineMaker,
        progress: ProgressFactory,
        pool: Pool,
    ) -> None:
        self.registry = registry
        self.pool = pool
        self._store = store
        self._maker = maker
        self._progress = progress
        self._models: Mapping[str, HostedModel] = {}
        self._groups: Mapping[str, _Group] = {}
        self._weights: Mapping[str, Weights] = {}
        self.replace(registry)

    def resolve(self, name: str) -> HostedModel:
        """The model with this id or alias.

        Raises:
            ModelNotFound: There is none.
        """
        return self._models[self.registry.resolve(name).id]

    def models(self) -> list[HostedModel]:
        """All models, in the order of the registry."""
        return [self._models[entry.id] for entry in self.registry.models]

    def engines(self) -> list[Replicas]:
        """What hosts them, each once, in the order of the registry."""
        return [group.engines for group in self._groups.values()]

    def models_of(self, engines: Replicas) -> list[HostedModel]:
        """The models that these engines host, in the order of the registry."""
        return [model for model in self.models() if model.engines is engines]

    def load_at_startup(self) -> None:
        """Begin loading every engine that some entry wants at start, as far as there is room."""
        for model in self.models():
            if model.entry.load == "startup":
                self._want(model.engines)

    async def close(self) -> None:
        """Stop every engine."""
        for group in self._groups.values():
            group.loader.close()
        await self.pool.close()

    def replace(self, registry: Registry) -> Changes:
        """Serve another registry from now on.

        Engines that the new one asks for in the same way go on; those that it does not know finish
        what they are at, and end. Nothing is loaded here.
        """
        before, rules = self._models, registry.herd
        self.pool.policy = SwapPolicy(rules.max_wait, rules.min_residency, rules.drain)
        if not self._groups or rules.memory != self.registry.herd.memory:
            self.pool.ledger.set_budgets(self._maker.budgets(rules.memory))
        self.registry = registry
        weights: dict[str, Weights] = {}
        groups: dict[str, _Group] = {}
        models: dict[str, HostedModel] = {}
        for key, entries in registry.engine_groups().items():
            files = weights.setdefault(key.source, self._weights_of(key, entries[0]))
            adapters = self._adapters_of(entries, files)
            group = groups[_identity(key, entries)] = self._group(key, entries, files, adapters)
            for entry in entries:
                model = HostedModel(entry, files, group.engines, adapters.get(entry.id))
                known = before.get(entry.id)
                models[entry.id] = known if known is not None and known.same_as(model) else model
        kept = {id(group) for group in groups.values()}
        for group in self._groups.values():
            if id(group) not in kept:
                group.loader.close()
                for slot in group.engines.slots:
                    self.pool.retire(slot)
        self._weights, self._groups, self._models = weights, groups, models
        return Changes(
            added=tuple(name for name in models if name not in before),
            removed=tuple(name for name in before if name not in models),
            changed=tuple(
                name for name in models if before.get(name, models[name]) != models[name]
            ),
        )

    def _weights_of(self, key: EngineKey, entry: ModelEntry) -> Weights:
        return self._weights.get(key.source) or Weights(entry, self._store, self._progress)

    def _adapters_of(
        self, entries: Sequence[ModelEntry], weights: Weights
    ) -> dict[str, HostedAdapter]:
        """The adapters of entries, by id: those that are known, or new ones."""
        found: dict[str, HostedAdapter] = {}
        for entry in entries:
            if entry.adapter is None:
                continue
            known = self._models.get(entry.id)
            adapter = None if known is None else known.adapter
            if known is None or adapter is None or not known.puts(entry.adapter, weights):
                adapter = HostedAdapter(
                    entry, self._store.adapters, self._progress, weights.directory
                )
            found[entry.id] = adapter
        return found

    def _group(
        self,
        key: EngineKey,
        entries: list[ModelEntry],
        weights: Weights,
        adapters: Mapping[str, HostedAdapter],
    ) -> _Group:
        """The engines of a group of entries: those that are there, or new ones."""
        options = _options(entries)
        most, _ = room(entries, ())
        known = self._groups.get(_identity(key, entries))
        if known is not None and known.room >= most:
            known.loader.entries, known.loader.adapters = entries, adapters
            for slot in known.engines.slots:
                slot.options = options
            return known
        loader = _Loader(entries, weights, adapters, self._maker)
        count = entries[0].engine.replicas
        slots = [self.pool.add(entries[0].id, loader, options) for _ in range(count)]
        return _Group(Replicas(slots), loader, most)

    def _want(self, engines: Replicas) -> None:
        for slot in engines.slots:
            if slot.tenure is None and slot.wanted_since is None:
                self.pool.want(slot)


def _identity(key: EngineKey, entries: Sequence[ModelEntry]) -> str:
    """Equal for groups of entries that the same running engine can serve."""
    lengths = [entry.context.length for entry in entries]
    longest = max((length for length in lengths if length is not None), default=None)
    parsers = sorted({str(entry.tool_parser) for entry in entries if _needs_parser(entry)})
    return json.dumps([*key, None if None in lengths else longest, parsers])


def _options(entries: Sequence[ModelEntry]) -> SlotOptions:
    """How the engine that ``entries`` share is kept: as the most demanding of them says."""
    timeouts = [entry.idle_timeout for entry in entries]
    sleeps = [entry.sleep_after for entry in entries]
    return SlotOptions(
        pinned=any(entry.pin for entry in entries),
        idle_timeout=_longest(timeouts),
        sleep_after=_longest(sleeps),
        sleep_level=min(entry.sleep_level for entry in entries),
    )


def _longest(times: Sequence[float | None]) -> float | None:
    """The longest of some times, of which None is for ever."""
    said = [time for time in times if time is not None]
    return max(said) if len(said) == len(times) else None


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
        adapter_bytes=room_for(max_rank) * info.linear_width * number,
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
