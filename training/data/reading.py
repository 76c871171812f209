"""Files of rows, read one row at a time: JSON, JSON lines, Parquet, text."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from training.errors import ExtraMissing

_BLOCK = 1 << 20
_SPACE = " \t\r\n"


class RawRow(NamedTuple):
    """A row as it stands in its file."""

    number: int
    """From 1: the line of JSON lines, else the place in the file."""
    value: Any
    problem: str | None = None
    """Why there is no value."""


def read_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file, by its name's end. A row that cannot be read carries the reason."""
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _parquet(path)
            return
        with _opened(path) as file:
            reader: Callable[[IO[str]], Iterator[RawRow]] = _READERS[Path(name).suffix]
            yield from reader(file)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        yield RawRow(1, None, f"the file cannot be read: {error}")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if path.name.endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield file
    else:
        with path.open(encoding="utf-8-sig") as file:
            yield file


def _json_lines(file: IO[str]) -> Iterator[RawRow]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield RawRow(number, None, f"is not JSON: {error}")
        else:
            yield RawRow(number, value)


def _text(file: IO[str]) -> Iterator[RawRow]:
    yield RawRow(1, {"text": file.read()})


def _json_list(file: IO[str]) -> Iterator[RawRow]:
    """The items of a list, decoded one by one as blocks of the file arrive."""
    window = _Window(file)
    if window.next_character() != "[":
        yield RawRow(1, None, "the file must hold a list of rows: [{...}, {...}]")
        return
    window.skip(1)
    number = 0
    while (character := window.next_character()) != "]":
        if character == "," and number:
            window.skip(1)
            if window.next_character() == "]":
                yield RawRow(number, None, "a comma without a row behind it")
                return
        elif number:
            yield RawRow(number, None, "no comma or ']' behind it; the file is damaged here")
            return
        number += 1
        try:
            value = window.decode()
        except (ValueError, RecursionError) as error:
            yield RawRow(number, None, f"is not JSON: {error}; nothing behind it was read")
            return
        yield RawRow(number, value)


class _Window:
    """The part of a JSON file that is looked at."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The next one that is no white space, or "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, count: int) -> None:
        """Go on by so many characters."""
        self._at += count

    def decode(self) -> Any:
        """The JSON value that stands here.

        Raises:
            ValueError: There is none.
        """
        self.next_character()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                # It may go on in the next block; at the file's end it is wrong for good.
                if not self._more():
                    raise
                continue
            # A number at the block's end may go on; objects and lists close themselves.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value

    def _more(self) -> bool:
        block = self._file.read(max(_BLOCK, len(self._text) - self._at))
        self._text = self._text[self._at :] + block
        self._at = 0
        return bool(block)


def _parquet(path: Path) -> Iterator[RawRow]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ExtraMissing("pyarrow") from error
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield RawRow(number, value)
    except pyarrow.ArrowException as error:
        yield RawRow(number + 1, None, f"the file is no Parquet: {error}")


_READERS: dict[str, Callable[[IO[str]], Iterator[RawRow]]] = {
    ".json": _json_list,
    ".jsonl": _json_lines,
    ".txt": _text,
    ".md": _text,
}
