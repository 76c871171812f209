"""A folder of models in which each is whole or not there at all.

Layout below the root::

    <key>/                     a finished model, with corral-manifest.json
    .partial-<key>-<pid>/      being built; renamed to <key> as its last step
    .download-<key>/           whole files of a half download, for the next attempt
    .locks/<key>.lock          held by the one process that builds <key>

A finished model is recognised by its manifest, which is written after every other file has
reached the disk. What a killed process leaves behind is a ``.partial`` folder, and nothing
serves those.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from server.errors import SourceError
from server.registry.manifest import MANIFEST, Manifest, is_intact, record_files, sync_folder
from server.registry.progress import Progress
from server.registry.values import format_bytes


@dataclass(frozen=True, slots=True)
class Workshop:
    """Two folders on the cache's disk while a model is being built."""

    model: Path
    """Becomes the finished model; not made yet."""
    scratch: Path
    """For whatever is needed on the way; thrown away in the end."""


class ModelCache:
    """Finished models by key.

    Args:
        root: The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the model with this key stands once it is finished."""
        return self.root / key

    def download_dir(self, key: str) -> Path:
        """Where the whole files of a half download are kept between attempts."""
        return self.root / f".download-{key}"

    def ready(self, key: str, source: dict[str, Any]) -> Path | None:
        """The finished model, or None. Compares sizes, not checksums: cheap enough for each start.

        Args:
            key: The source's key.
            source: The source's description; a model made from another one is not this one.
        """
        path = self.path(key)
        manifest = Manifest.read(path)
        if manifest is None or manifest.source != source or not is_intact(path, manifest):
            return None
        return path

    @contextmanager
    def lock(self, key: str, progress: Progress) -> Iterator[None]:
        """Let one process at a time work on a key; others wait, however long it takes."""
        lock = self._lock_of(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.start("waiting for another process that fetches this model", None, "")
            try:
                lock.acquire()
            finally:
                progress.finish()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def building(self, key: str) -> Iterator[Workshop]:
        """Folders to build a model in; the caller holds the key's lock.

        They are gone afterwards, but for the model if ``publish`` has moved it to its place.
        """
        self._sweep(key)
        partial = self.root / f".partial-{key}-{os.getpid()}"
        workshop = Workshop(model=partial / "model", scratch=partial / "scratch")
        workshop.scratch.mkdir(parents=True)
        try:
            yield workshop
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def publish(
        self,
        built: Path,
        key: str,
        source: dict[str, Any],
        resolved: dict[str, str],
        progress: Progress,
    ) -> Path:
        """Make a built folder the finished model: checksums, manifest, then one rename.

        Args:
            built: ``Workshop.model``, filled.
            key: The source's key.
            source: The source's description.
            resolved: What the source turned out to be, such as the commit.
            progress: Told of the bytes that are read for the checksums.
        """
        manifest = Manifest(source=source, resolved=resolved, files=record_files(built, progress))
        manifest.write(built)
        target = self.path(key)
        if target.exists():
            # An older or damaged model. rename() does not replace a folder that holds files.
            old = self.root / f".partial-{key}-{os.getpid()}-old"
            target.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        built.rename(target)
        sync_folder(self.root)
        return target

    def remove(self, key: str) -> bool:
        """Delete a finished model and any half download; the caller holds the key's lock."""
        target = self.path(key)
        existed = target.exists()
        # The manifest goes first: what is left of a removal that is cut short is not a model.
        (target / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(self.download_dir(key), ignore_errors=True)
        self._sweep(key)
        return existed

    def _lock_of(self, key: str) -> FileLock:
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock")

    def _sweep(self, own_key: str) -> None:
        """Delete what dead processes left half built.

        Whoever builds a key holds its lock, so a lock that can be had means that nobody builds.
        (Process ids would not tell: containers that share this folder count their own.)
        """
        keys = {path.name for path in self.root.glob(".partial-*")}
        for name in keys:
            key = name.removeprefix(".partial-").removesuffix("-old").rpartition("-")[0]
            if key == own_key:
                shutil.rmtree(self.root / name, ignore_errors=True)
                continue
            lock = self._lock_of(key)
            try:
                with lock.acquire(timeout=0):
                    shutil.rmtree(self.root / name, ignore_errors=True)
            except Timeout:
                continue


class NoSpaceError(OSError):
    """The disk is full, or about to be.

    Args:
        needed: Bytes that were to be written, or None when nobody knows.
        free: Bytes that were left then, or None.
    """

    def __init__(self, needed: int | None = None, free: int | None = None) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.needed = needed
        self.free = free


def require_space(folder: Path, needed: int) -> None:
    """Refuse work that the disk can't hold, before it starts.

    Args:
        folder: An existing folder on the disk in question.
        needed: Bytes that will be written.

    Raises:
        NoSpaceError: Fewer than ``needed`` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoSpaceError(needed, free)


@contextmanager
def disk_errors(root: Path, what: str) -> Iterator[None]:
    """Translate the disk's refusals into a SourceError that names the folder and the remedy.

    Args:
        root: The cache's folder.
        what: What was being brought, for people.
    """
    try:
        yield
    except OSError as error:
        raise SourceError(_disk_message(error, root, what)) from error


def _disk_message(error: OSError, root: Path, what: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needed, free = getattr(error, "needed", None), getattr(error, "free", None)
        need = "" if needed is None else f" It needs {format_bytes(needed)} ({needed} bytes)"
        need += "" if not need else "." if free is None else f"; {format_bytes(free)} are free."
        return (
            f"Not enough disk space in {root} for {what}.{need} Free some, or point "
            "CORRAL_CACHE_DIR at a larger disk."
        )
    if error.errno == errno.EROFS:
        return (
            f"{root} is on a read-only file system, so {what} cannot be put there. Point "
            "CORRAL_CACHE_DIR at a folder that can be written."
        )
    if isinstance(error, PermissionError):
        return (
            f"No permission to use {error.filename or root} while preparing {what}. Change its "
            "owner or mode, or point CORRAL_CACHE_DIR at another folder."
        )
    return f"Preparing {what} in {root} failed: {error}"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SourceError: The file is missing or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} must hold a JSON object.")
    return value
