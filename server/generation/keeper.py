"""The registry that is served: the entries of the file, and behind them those added by the API.

Whatever changes it goes the same way: what is to be served is put together and checked as a whole,
in a thread, and only then takes the place of what is served. A mistake changes nothing. Names of
the file win: an added entry that clashes with it, or whose base it no longer has, is set aside
until that is mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

import structlog

from server.errors import (
    InvalidRequest,
    ModelNotFound,
    Problem,
    RegistryError,
    StorageFailed,
)
from server.generation.herd import Changes, Herd
from server.generation.merging import SetAside, extended, merged
from server.generation.operating import Operator
from server.prompts.catalog import FORMATS
from server.registry.loader import load_registry
from server.registry.schema import ModelEntry, Registry
from server.storage import AddedEntries, AddedEntry

log = structlog.get_logger(__name__)

# Between attempts to read the database.
_PAUSES_S: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_UNCHANGED: Final = "Nothing was changed."


class RegistryKeeper:
    """Reads, extends and replaces the registry of a herd.

    Args:
        herd: Serves the file's entries already.
        operator: Has pinned engines.
        added: Keeps what is added.
        path: The registry file; None: there is none to be read again.
    """

    def __init__(
        self, herd: Herd, operator: Operator, added: AddedEntries, path: Path | None
    ) -> None:
        self._herd = herd
        self._operator = operator
        self._store = added
        self._path = None if path is None else path.absolute()
        self._file = herd.registry
        self._added: Mapping[str, AddedEntry] = {}
        self._one_at_a_time = asyncio.Lock()
        self.set_aside: Sequence[SetAside] = ()

    async def open(self) -> None:
        """Serve what was added in former runs.

        Raises:
            StorageFailed: It cannot be read.
        """
        if not self._store.kept:
            return
        async with self._one_at_a_time:
            await self._serve(self._file, await self._stored())

    async def keep_opening(self) -> None:
        """`open`, tried again for as long as the database cannot be read."""
        for pause in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            try:
                await self.open()
            except StorageFailed as error:
                log.warning("added models are not served yet", error=error.what)
                await asyncio.sleep(pause)
            except Exception:
                log.exception("added models are not served")
                return
            else:
                return

    async def reload(self) -> Changes:
        """Read the file again, and what other servers have added, and serve that.

        Raises:
            InvalidRequest: There is no file.
            RegistryError: It has mistakes; all that was served still is.
        """
        async with self._one_at_a_time:
            if self._path is None:
                raise InvalidRequest("This server was started without a registry file.")
            file = await asyncio.to_thread(load_registry, self._path, known_templates=FORMATS)
            added = self._added
            if self._store.kept:
                with contextlib.suppress(StorageFailed):  # it has been logged
                    added = await self._stored()
            return await self._serve(file, added)

    async def add(self, entry: Mapping[str, Any], *, replace: bool = False) -> ModelEntry:
        """Serve another entry from now on, also after a restart.

        Args:
            entry: What stands for a model in the registry file.
            replace: It may take the place of an added one of the same id.

        Raises:
            InvalidRequest: There is an entry of this id already.
            RegistryError: The entry is wrong.
            StorageFailed: It cannot be kept.
        """
        async with self._one_at_a_time:
            new, added = self._with(entry, replace=replace)
            await self._refuse_wrong(added, new.id)
            try:
                await self._store.put(self._name, new)
            except StorageFailed as error:
                raise StorageFailed(error.what, _UNCHANGED) from error
            await self._serve(self._file, added)
            return self._herd.registry.resolve(new.id)

    async def check_adapter(self, entry: Mapping[str, Any], *, replace: bool = False) -> None:
        """Find out whether an adapter could be served; brings its files.

        Args:
            entry: See `add`.
            replace: See `add`.

        Raises:
            InvalidRequest, RegistryError: See `add`.
            AdapterFailed: Its files cannot be had, or do not fit the base.
        """
        new, added = self._with(entry, replace=replace)
        registry = await self._refuse_wrong(added, new.id)
        await self._herd.check_adapter(registry, new.id)

    def added_entry(self, number: str) -> AddedEntry | None:
        """What was added under this id, whether it is served or not."""
        return self._added.get(number)

    async def remove(self, number: str) -> None:
        """Serve an added entry no longer; requests under way are finished.

        Raises:
            ModelNotFound: There is no entry of this id.
            InvalidRequest: It stands in the file, or added adapters need it.
            StorageFailed: That cannot be kept.
        """
        async with self._one_at_a_time:
            if number not in self._added:
                self._refuse_foreign(number)
            added = {name: entry for name, entry in self._added.items() if name != number}
            orphans = await self._orphans(added)
            if orphans:
                raise InvalidRequest(
                    f"'{number}' is the base of {', '.join(orphans)}. Remove them first.",
                    param="model",
                    code="model_in_use",
                )
            try:
                await self._store.remove(self._name, number)
            except StorageFailed as error:
                raise StorageFailed(error.what, _UNCHANGED) from error
            await self._serve(self._file, added)

    def is_added(self, number: str) -> bool:
        """Whether a model that is served was added by the API."""
        return number in self._added and number not in {entry.id for entry in self._file.models}

    @property
    def _folder(self) -> Path:
        """Where relative directories of added entries start."""
        return Path.cwd() if self._path is None else self._path.parent

    @property
    def _name(self) -> str:
        """What added entries are kept under."""
        return "" if self._path is None else str(self._path)

    async def _stored(self) -> Mapping[str, AddedEntry]:
        return {entry.id: entry for entry in await self._store.all(self._name)}

    async def _serve(self, file: Registry, added: Mapping[str, AddedEntry]) -> Changes:
        """Put together what is to be served, and serve it.

        Raises:
            RegistryError: The file asks for engines that cannot be.
        """
        registry, aside = await self._fitting(file, added)
        running = set(self._herd.engines())
        changes = self._herd.replace(registry)
        self._file, self._added = file, added
        self._operator.reapply_pins()
        for engines in self._herd.engines():
            models = self._herd.models_of(engines)
            if engines not in running and any(m.entry.load == "startup" for m in models):
                for slot in engines.slots:
                    self._herd.pool.want(slot)
        self._tell(changes, aside)
        self.set_aside = aside
        return changes

    async def _fitting(
        self, file: Registry, added: Mapping[str, AddedEntry]
    ) -> tuple[Registry, list[SetAside]]:
        """The file's entries with the added ones that can be served behind them, and the others.

        Raises:
            RegistryError: See `_serve`.
        """
        registry, aside = await asyncio.to_thread(merged, file, added.values(), self._folder)
        unfit = await self._herd.unfit(registry)
        foreign = {entry.id for entry in file.models}
        blamed = {
            name: engine.reason for engine in unfit for name in engine.models if name not in foreign
        }
        if not blamed:
            if unfit:
                raise RegistryError([Problem(e.models[0], "engine", e.reason) for e in unfit])
            return registry, aside
        # What was added must not cost the file's models their engine.
        rest = {name: entry for name, entry in added.items() if name not in blamed}
        registry, aside = await self._fitting(file, rest)
        return registry, [
            *aside,
            *(SetAside(name, added[name].created_at, why) for name, why in blamed.items()),
        ]

    def _tell(self, changes: Changes, aside: Sequence[SetAside]) -> None:
        said = {
            what: ", ".join(names)
            for what, names in (
                ("added", changes.added),
                ("removed", changes.removed),
                ("changed", changes.changed),
            )
            if names
        }
        if said:
            log.info("the registry has changed", **said)
        for entry in aside:
            if entry not in self.set_aside:
                log.warning("an added model is set aside", model=entry.id, reason=entry.reason)

    def _with(
        self, entry: Mapping[str, Any], *, replace: bool
    ) -> tuple[AddedEntry, Mapping[str, AddedEntry]]:
        """An entry that is to be added, and all of them with it.

        Raises:
            InvalidRequest: There is one of this id already.
        """
        number = str(entry.get("id"))
        known = self._added.get(number)
        self._refuse_taken(number, added=known is not None, replace=replace)
        new = AddedEntry(number, known.created_at if known else int(time.time()), dict(entry))
        return new, {**self._added, number: new}

    def _refuse_taken(self, number: str, *, added: bool, replace: bool) -> None:
        if added and replace:
            return
        if added or any(entry.id == number for entry in self._file.models):
            where = "was added before" if added else f"stands in {self._path or 'the registry'}"
            raise InvalidRequest(
                f"There is a model '{number}' already: it {where}.", param="id", code="model_exists"
            )

    async def _refuse_wrong(self, added: Mapping[str, AddedEntry], number: str) -> Registry:
        """The registry with an entry that is not served yet.

        Raises:
            RegistryError: It cannot be served.
        """
        registry, aside = await self._fitting(self._file, added)
        reason = next((entry.reason for entry in aside if entry.id == number), None)
        if reason is None:
            return registry
        # Every mistake by its field, where it is one of the entry's own.
        others = [added[model.id] for model in registry.models if self.is_added(model.id)]
        await asyncio.to_thread(extended, self._file, [*others, added[number]], self._folder)
        raise RegistryError([Problem(number, "engine", reason)])

    async def _orphans(self, added: Mapping[str, AddedEntry]) -> list[str]:
        """Entries that are served now and could not be any more with these."""
        _, aside = await self._fitting(self._file, added)
        before = {entry.id for entry in self.set_aside}
        return [entry.id for entry in aside if entry.id not in before]

    def _refuse_foreign(self, number: str) -> None:
        if any(entry.id == number for entry in self._file.models):
            raise InvalidRequest(
                f"'{number}' stands in {self._path or 'the registry'}: take it out there. Only "
                "models that were added by the API can be removed by it.",
                param="model",
                code="model_in_file",
            )
        raise ModelNotFound(number)
