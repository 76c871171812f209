"""Every model of a registry, and the engines behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.engines.eviction import SwapPolicy
from server.engines.pool import Pool
from server.engines.replicas import Replicas
from server.engines.states import SlotOptions
from server.errors import CorralError
from server.generation.adapters import HostedAdapter, room
from server.generation.hosted import HostedModel
from server.generation.loading import EngineMaker, GroupLoader, engine_spec, needs_parser
from server.generation.weights import ProgressFactory, Weights
from server.registry.schema import EngineKey, ModelEntry, Registry
from server.registry.sources import ModelStore


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries that share engines.

    Args:
        room: Adapters that the engines have room for.
    """

    engines: Replicas
    loader: GroupLoader
    room: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new registry changed: ids of models."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unfit:
    """Models whose engine cannot be.

    Args:
        models: Their ids.
        reason: Why not.
    """

    models: tuple[str, ...]
    reason: str


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

    async def unfit(self, registry: Registry) -> list[Unfit]:
        """Engines that another registry asks for and that cannot be, as far as is known by now.

        Those that run already are not among them, nor those whose files are yet to be fetched.
        """
        found = []
        for key, entries in registry.engine_groups().items():
            weights = self._weights.get(key.source)
            files = None if weights is None else weights.known
            if files is None or self._known(key, entries) is not None:
                continue
            try:
                await self._maker.need(engine_spec(entries, files))
            except CorralError as error:
                found.append(Unfit(tuple(entry.id for entry in entries), str(error)))
        return found

    async def check_adapter(self, registry: Registry, name: str) -> None:
        """Bring the adapter of an entry that is not served yet, and hold it against its base.

        Nothing is done while the base itself is yet to be fetched, which may take hours.

        Args:
            registry: Has the entry.
            name: Its id.

        Raises:
            AdapterFailed: It cannot be used.
        """
        entry = registry.resolve(name)
        files = self._weights_of(entry.engine_key, entry)
        if files.known is not None:
            await HostedAdapter(entry, self._store.adapters, self._progress, files.directory).find()

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
        known = self._known(key, entries)
        if known is not None:
            known.loader.entries, known.loader.adapters = entries, adapters
            for slot in known.engines.slots:
                slot.options = options
                slot.name = entries[0].id
            return known
        loader = GroupLoader(entries, weights, adapters, self._maker)
        count = entries[0].engine.replicas
        slots = [self.pool.add(entries[0].id, loader, options) for _ in range(count)]
        return _Group(Replicas(slots), loader, room(entries, ())[0])

    def _known(self, key: EngineKey, entries: Sequence[ModelEntry]) -> _Group | None:
        """The group whose engines serve these entries as they are; None: others must be made.

        Adapters that have come to an engine with places for some take turns there until it is
        loaded again for another reason: that is quicker, and keeps its prefix cache.
        """
        known = self._groups.get(_identity(key, entries))
        keeps = known is not None and (known.room or not room(entries, ())[0])
        return known if keeps else None

    def _want(self, engines: Replicas) -> None:
        for slot in engines.slots:
            if slot.tenure is None and slot.wanted_since is None:
                self.pool.want(slot)


def _identity(key: EngineKey, entries: Sequence[ModelEntry]) -> str:
    """Equal for groups of entries that the same running engine can serve."""
    lengths = [entry.context.length for entry in entries]
    longest = max((length for length in lengths if length is not None), default=None)
    parsers = sorted({str(entry.tool_parser) for entry in entries if needs_parser(entry)})
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
