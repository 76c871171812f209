"""Adapters of registry entries: from a source to one that an engine holds while a request runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from server.engines.adapters import RETRY_AFTER_S
from server.engines.base import Engine
from server.engines.lora_args import LEAST_RANK, RANKS
from server.engines.spec import Adapter
from server.errors import AdapterFailed, CorralError, ModelLoading, SourceError
from server.registry.adapter_files import find_misfits
from server.registry.adapters import AdapterCopy, AdapterStore
from server.registry.progress import Progress
from server.registry.schema import ModelEntry

log = structlog.get_logger(__name__)

# Looking whether files have changed takes microseconds, and for good where a network disk hangs.
_LOOKERS = ThreadPoolExecutor(2, thread_name_prefix="look")
_FETCHERS = ThreadPoolExecutor(8, thread_name_prefix="fetch-adapter")
# Places for adapters unless the entry says otherwise: as many as there are adapters, but one for
# an adapter that comes later beside a single one, and no more than so many.
_LEAST, _MOST = 2, 8
# Longest an engine that could start waits to learn the ranks of adapters that are being fetched.
_RANKS_WITHIN_S = 60.0


class HostedAdapter:
    """The adapter of one registry entry.

    Args:
        entry: The entry, with ``adapter``.
        store: Where adapters come from.
        progress: Makes the display of fetching, by the entry's id.
        base: Brings the folder of the base model.

    Attributes:
        failure: Why the adapter cannot be used; empty while nothing is known against it.
        failed_at: Unix time of that.
    """

    def __init__(
        self,
        entry: ModelEntry,
        store: AdapterStore,
        progress: Callable[[str], Progress],
        base: Callable[[], Awaitable[Path]],
    ) -> None:
        assert entry.adapter is not None
        self._name = entry.id
        self._base_id = entry.base
        self._source = entry.adapter
        self._store = store
        self._progress = progress
        self._base = base
        self._known: Adapter | None = None
        self._finding: asyncio.Task[Adapter] | None = None
        self._retry_at = 0.0
        self._refused: Any = None
        self.failure = ""
        self.failed_at = 0.0

    async def find(self, *, wait_seconds: float = float("inf")) -> Adapter:
        """The adapter as its files are now: fetched, checked and copied where they have changed.

        Who stops waiting stops nothing else.

        Raises:
            AdapterFailed: It cannot be had; not tried again for a moment, unless its files change.
            ModelLoading: It was not there after ``wait_seconds``; fetching goes on.
        """
        loop = asyncio.get_running_loop()
        copy = await loop.run_in_executor(_LOOKERS, self._store.unchanged, self._source)
        if copy is not None and self._known is not None and copy.digest == self._known.digest:
            return self._known
        if self._finding is None:
            await self._refuse_known_failure()
        if self._finding is None:
            self._finding = asyncio.create_task(self._find(), name=f"find {self._name}")
            # All who waited may have left.
            self._finding.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(None if wait_seconds == float("inf") else wait_seconds):
                return await asyncio.shield(self._finding)
        except TimeoutError:
            raise ModelLoading(
                self._name,
                f"The adapter of '{self._name}' is still being fetched. Try again shortly.",
                retry_after=5.0,
            ) from None

    @asynccontextmanager
    async def on(
        self, engine: Engine, adapter: Adapter, *, wait_seconds: float
    ) -> AsyncGenerator[None, None]:
        """Have ``engine`` hold what ``find`` found meanwhile.

        Raises:
            CorralError: See `AdapterShelf.hold`.
        """
        async with AsyncExitStack() as stack:
            hold = engine.shelf.hold(adapter, wait_seconds=wait_seconds)
            try:
                await stack.enter_async_context(hold)
            except AdapterFailed as error:
                self._note(str(error))
                raise
            self.failure = ""
            yield

    async def _refuse_known_failure(self) -> None:
        pause = self._retry_at - time.monotonic()
        if pause > 0 and await self._looks() == self._refused:
            raise AdapterFailed(self._name, self.failure, retry_after=pause)

    async def _looks(self) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_LOOKERS, self._store.looks, self._source)

    async def _find(self) -> Adapter:
        looks = await self._looks()
        try:
            copy = await self._checked_copy()
        except SourceError as error:
            self._refused, self._retry_at = looks, time.monotonic() + RETRY_AFTER_S
            self._note(str(error))
            raise AdapterFailed(self._name, str(error), retry_after=RETRY_AFTER_S) from error
        finally:
            self._finding = None
        info = copy.info
        self._known = Adapter(
            self._name, copy.directory, copy.digest, rank=info.rank, bytes=info.weight_bytes
        )
        return self._known

    async def _checked_copy(self) -> AdapterCopy:
        loop = asyncio.get_running_loop()
        progress = self._progress(self._name)
        copy = await loop.run_in_executor(_FETCHERS, self._store.copy, self._source, progress)
        base = await self._base()
        misfits = await loop.run_in_executor(_FETCHERS, find_misfits, copy.info, base)
        if misfits:
            raise SourceError(
                f"The adapter of '{self._name}' does not fit '{self._base_id}': "
                f"{'; '.join(misfits)}."
            )
        return copy

    def _note(self, failure: str) -> None:
        if failure != self.failure:
            log.warning("adapter failed", model=self._name, error=failure)
        self.failure, self.failed_at = failure, time.time()


def begin_finding(adapters: Iterable[HostedAdapter]) -> list[asyncio.Task[Adapter]]:
    """Have them fetched; nobody needs to wait for it."""
    tasks = [asyncio.create_task(adapter.find()) for adapter in adapters]
    for task in tasks:
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return tasks


async def known_ranks(finding: Sequence[asyncio.Task[Adapter]]) -> list[int]:
    """Ranks of those that are found soon; what the others lack, their requests find out."""
    if not finding:
        return []
    done, _ = await asyncio.wait(finding, timeout=_RANKS_WITHIN_S)
    return [task.result().rank for task in done if task.exception() is None]


def room(entries: Sequence[ModelEntry], ranks: Iterable[int]) -> tuple[int, int]:
    """How many adapters the engine of ``entries`` takes, and up to which rank."""
    settings = entries[0].engine
    here = sum(entry.adapter is not None for entry in entries)
    most = settings.max_adapters or (min(max(here, _LEAST), _MOST) if here else 0)
    rank = settings.max_adapter_rank or min(max([LEAST_RANK, *ranks]), RANKS[-1])
    return most, rank


async def preload(adapters: Sequence[HostedAdapter], engine: Engine, most: int) -> None:
    """Have an engine load adapters, as many as it has room for, before anybody asks for them."""
    for hosted in adapters[:most]:
        try:
            adapter = await hosted.find()
            async with hosted.on(engine, adapter, wait_seconds=_RANKS_WITHIN_S):
                pass
        except CorralError:  # noted, and told to whoever asks for it
            continue
