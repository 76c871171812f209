"""Model files behind registry entries, fetched once for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from server.engines.slot import RETRY_AFTER_S
from server.errors import SourceError
from server.prompts.tokenizer import PromptTokenizer
from server.registry.inspect import ModelInfo, describe_model
from server.registry.progress import Progress, SeenProgress, Stage
from server.registry.schema import ModelEntry
from server.registry.sources import ModelStore

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
        self._seen: SeenProgress | None = None
        self._files: ModelFiles | None = None
        self._failure = ""
        self._retry_at = 0.0

    @property
    def known(self) -> ModelFiles | None:
        """The files if they have been fetched."""
        return self._files

    @property
    def stage(self) -> Stage | None:
        """What is being done to bring them, and how far it is; None: nothing."""
        return None if self._seen is None else self._seen.stage

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
        self._seen = SeenProgress(self._progress(self._entry.id))
        directory = self._store.prepare(self._entry.source, self._seen)
        return ModelFiles(
            directory, describe_model(directory), PromptTokenizer.from_directory(directory)
        )
