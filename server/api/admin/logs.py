"""The end of a log file, and what is written to it from then on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import BinaryIO, Final

# Of a file's end, no more than this is looked at.
_MOST_BYTES: Final = 8 << 20
_BLOCK: Final = 1 << 16
_LOOK_EVERY_S: Final = 0.5


def tail(path: Path, lines: int) -> bytes:
    """The last lines of a file, at most 8 MiB of them.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    with path.open("rb") as file:
        return _last_lines(file, lines)


async def follow(
    path: Path, lines: int, stopping: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    """The last lines, and then whatever is added, also to a new file of this name.

    Ends when ``stopping`` says so.
    """
    reader = _Reader(path)
    try:
        if last := await asyncio.to_thread(reader.begin, lines):
            yield last
        while not stopping():
            if added := await asyncio.to_thread(reader.more):
                yield added
            else:
                await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        reader.close()


class _Reader:
    """Reads what is added to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def begin(self, lines: int) -> bytes:
        self._file = self._path.open("rb")
        return _last_lines(self._file, lines)

    def more(self) -> bytes:
        """What was added, at most a block of it; b"" if there is nothing."""
        if self._file is not None and (added := self._file.read(_BLOCK)):
            return added
        if self._is_replaced():
            self.close()
            self._file = self._path.open("rb")
            return self._file.read(_BLOCK)
        return b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_replaced(self) -> bool:
        """Whether another file has the name by now, or the same one has become shorter."""
        try:
            now = self._path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino) or (
            now.st_size < self._file.tell()
        )


def _last_lines(file: BinaryIO, lines: int) -> bytes:
    """The last lines of an open file, which is left at its end."""
    end = file.seek(0, os.SEEK_END)
    start, found = end, b""
    # One more line end than lines: the last line ends with one as well.
    while start and found.count(b"\n") <= lines and len(found) < _MOST_BYTES:
        start = max(0, start - _BLOCK)
        file.seek(start)
        found = file.read(end - start)
    file.seek(end)
    kept = found.splitlines(keepends=True)
    if start:  # the first one lacks its beginning
        kept = kept[1:]
    return b"".join(kept[-lines:]) if lines else b""
