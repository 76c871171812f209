"""Has the registry file changed? Looked at every two seconds, in ways that editors cannot fool.

A file is read once it has been the same for two looks: half of it is no registry. That it is
replaced rather than written to, or away for a moment, is how many editors save.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from server.errors import CorralError, RegistryError
from server.generation.herd import Changes

log = structlog.get_logger(__name__)

EVERY_S: Final = 2.0


class FileWatch:
    """Notices that a file has another content than the one that was last acted upon.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looks: tuple[int, ...] | None = None
        self._pending = False
        self._acted: bytes | None = None

    def look(self) -> bool:
        """Whether to act now; blocks for the reading of a small file.

        The first time is when the file has been seen twice: it may have changed since whoever
        watches it read it himself.
        """
        looks = self._stat()
        if looks is None or looks != self._looks:
            self._looks, self._pending = looks, looks is not None
            return False
        if not self._pending:
            return False
        try:
            digest = hashlib.sha256(self._path.read_bytes()).digest()
        except OSError:
            return False
        self._pending = False
        acts, self._acted = digest != self._acted, digest
        return acts

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:  # away; whoever replaces it brings it back
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


async def reload_when_told(
    reload: Callable[[], Awaitable[Changes]],
    told: asyncio.Event,
    path: Path | None,
    *,
    every: float = EVERY_S,
) -> None:
    """Reload when ``told`` is set, and when the file at ``path`` has changed; never returns.

    What is wrong with the file is logged once.
    """
    watch = None if path is None else FileWatch(path)
    while True:
        asked = await _wait(told, None if watch is None else every)
        if asked or (watch is not None and await asyncio.to_thread(watch.look)):
            await _reload(reload, confirm=asked)


async def _wait(told: asyncio.Event, seconds: float | None) -> bool:
    """Whether ``told`` was set within some seconds."""
    try:
        async with asyncio.timeout(seconds):
            await told.wait()
    except TimeoutError:
        return False
    told.clear()
    return True


async def _reload(reload: Callable[[], Awaitable[Changes]], *, confirm: bool) -> None:
    try:
        changes = await reload()
        if confirm and changes == Changes((), (), ()):
            log.info("the registry was read again, and says nothing new")
    except RegistryError as error:
        log.warning("the registry is not taken over, it has mistakes", count=len(error.problems))
        for problem in error.problems:
            log.warning(str(problem))
    except CorralError as error:
        log.warning("the registry cannot be read again", error=str(error))
    except Exception:
        log.exception("reading the registry again failed")
