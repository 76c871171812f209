"""One registry entry as a request sees it."""

from __future__ import annotations

from dataclasses import replace

from server.engines.replicas import Replicas
from server.engines.states import SlotState
from server.generation.adapters import HostedAdapter
from server.generation.weights import Weights
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter
from server.registry.inspect import resolve_context_length
from server.registry.progress import Stage
from server.registry.schema import ModelEntry
from server.registry.sources_schema import AdapterSource


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
    def fetching(self) -> Stage | None:
        """What is being done to bring the model's files; None: nothing."""
        return self._weights.stage

    @property
    def context_length(self) -> int:
        """Longest prompt + completion in tokens; 0 before the files are there."""
        files = self._weights.known
        return 0 if files is None else resolve_context_length(self.entry, files.info)

    @property
    def weight_bytes(self) -> int:
        """What the weights take, without an adapter's; 0 before the files are there."""
        files = self._weights.known
        return 0 if files is None else files.info.weight_bytes

    @property
    def vocab_size(self) -> int:
        """Token ids the model itself knows; 0 before the files are there."""
        files = self._weights.known
        return 0 if files is None else files.info.vocab_size
