"""Results as they come in: a line of JSON each, so that a run that was cut short goes on.

A line's ``key`` is made of all that its result depends on: what was asked, of which model, and how.
Whatever is edited, a question or a temperature, is asked again; the rest is not.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self

from evaluation.errors import OtherRun, WrongInput

RESULTS = "results.jsonl"


class Store:
    """The results of one folder.

    Args:
        folder: Made if it is not there.

    Raises:
        OtherRun: The folder has files, and none of them are results; or it cannot be made.
        WrongInput: A line of the results is damaged, and it is not the last one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / RESULTS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            foreign = not self._path.exists() and any(folder.iterdir())
        except OSError as error:
            raise OtherRun(f"{folder} cannot be used: {error.strerror}") from None
        if foreign:
            raise OtherRun(
                f"{folder} holds other files and no {RESULTS}: name a new folder with --out"
            )
        self._records = self._read() if self._path.exists() else {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise OtherRun(f"another evaluation writes into {self.folder}") from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None

    def get(self, key: str) -> dict[str, Any] | None:
        """The result of this key, if there is one."""
        return self._records.get(key)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What was noted of each run that asked something, in their order."""
        return [record for record in self._records.values() if record.get("kind") == "run"]

    def have(self, keys: Iterable[str]) -> bool:
        """True if there is a result of every key."""
        return all(key in self._records for key in keys)

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Keep a result; it is on its way to the disk when this returns."""
        assert self._file is not None, "a store is written inside `with`"
        record = {"key": key, **record}
        self._records[key] = record
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self) -> dict[str, dict[str, Any]]:
        """All results; a last line that was half written is cut off the file."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
        records = {}
        for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
            try:
                record = json.loads(line)
                records[record["key"]] = record
            except (ValueError, KeyError, TypeError):
                raise WrongInput(f"{self._path}:{number} is no result") from None
        return records
