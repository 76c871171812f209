"""The recipe's data sets as one stream of conversations: checked, weighted, split.

Everything that is chosen (which rows are kept back, which are seen a second time) is chosen by what
is in a conversation and the seed, so that it is the same however often and in whatever order the
rows are read.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from server.errors import Problem
from training.data.reading import RawRow, read_rows
from training.data.shapes import (
    Conversation,
    RowError,
    as_openai_row,
    as_row,
    detect_shape,
    read_conversation,
)
from training.errors import DataError
from training.recipe import DataSet, Recipe

_MOST_PROBLEMS: Final = 1000
_WHOLE: Final = 1 << 64


class Located(NamedTuple):
    """A data set, and where its files are."""

    data: DataSet
    files: Sequence[Path]


@dataclass(slots=True)
class Counts:
    """What became of a data set's rows."""

    rows: int = 0
    """All that were read."""
    skipped: int = 0
    """Rows that cannot be trained on."""
    duplicates: int = 0
    held_out: int = 0
    trained: int = 0
    """Rows of an epoch: by the set's weight more or fewer than there are."""


@dataclass(slots=True)
class Survey:
    """What a look at every row has found.

    Args:
        counts: By the data set's name.
        cut: Conversations whose number lies below it are held out.
    """

    counts: dict[str, Counts] = field(default_factory=dict)
    cut: int = 0

    @property
    def held_out(self) -> int:
        """Rows kept back."""
        return sum(counts.held_out for counts in self.counts.values())

    @property
    def trained(self) -> int:
        """Rows of an epoch."""
        return sum(counts.trained for counts in self.counts.values())


class Row(NamedTuple):
    """A conversation on its way into training."""

    set_name: str
    conversation: Conversation
    number: int
    """Of its content, evenly spread over 64 bits; what is chosen is chosen by it."""


def survey(sets: Sequence[Located], recipe: Recipe) -> Survey:
    """Look at every row once.

    Raises:
        DataError: Rows are wrong; names all of them, up to a thousand.
    """
    problems = _Problems()
    found = Survey({each.data.name: Counts() for each in sets})
    weights = {each.data.name: each.data.weight for each in sets}
    rows = _rows(sets, recipe, problems, found.counts)
    numbers = [(row.number, row.set_name) for row in rows]
    problems.raise_any()
    found.cut = _cut(recipe, [number for number, _ in numbers])
    for number, name in numbers:
        counts = found.counts[name]
        if number < found.cut:
            counts.held_out += 1
        else:
            counts.trained += copies(number, weights[name])
    if not found.trained:
        empty = Problem("data", "rows", "there is no row to train on")
        raise DataError("The recipe", [empty])
    return found


def training_rows(sets: Sequence[Located], recipe: Recipe, cut: int) -> Iterator[Row]:
    """The rows of an epoch in the files' order, each as often as its set's weight says."""
    weights = {each.data.name: each.data.weight for each in sets}
    for row in _rows(sets, recipe, _Problems()):
        if row.number >= cut:
            for _ in range(copies(row.number, weights[row.set_name])):
                yield row


def held_out_rows(sets: Sequence[Located], recipe: Recipe, cut: int) -> Iterator[Row]:
    """The rows kept back, in the files' order."""
    return (row for row in _rows(sets, recipe, _Problems()) if row.number < cut)


def streamed_cut(recipe: Recipe) -> int:
    """What ``Survey.cut`` is where nobody looks at the rows first."""
    return _cut(recipe, [])


def copies(number: int, weight: float) -> int:
    """How often a row is seen in an epoch."""
    whole = int(weight)
    # Other bits than those that choose the held-out rows.
    spread = int.from_bytes(hashlib.sha256(number.to_bytes(8, "big")).digest()[:8], "big")
    return whole + (spread < (weight - whole) * _WHOLE)


def number_of(conversation: Conversation, seed: int) -> int:
    """A conversation's number: equal for equal ones, evenly spread over 64 bits."""
    text = json.dumps([seed, as_row(conversation)], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def write_conversations(path: Path, rows: Iterable[Row]) -> int:
    """Write conversations as JSON lines of OpenAI's messages; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            line = as_openai_row(row.conversation) | {"set": row.set_name}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _cut(recipe: Recipe, numbers: Sequence[int]) -> int:
    match recipe.held_out:
        case None:
            return 0
        case float(share):
            return int(share * _WHOLE)
        case count:
            smallest = heapq.nsmallest(count, set(numbers))
            return smallest[-1] + 1 if smallest else 0


class _Problems:
    """Collects what is wrong with rows."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._more = 0

    def add(self, where: str, wrongs: Iterable[tuple[str, str]]) -> None:
        for name, reason in wrongs:
            if len(self._found) < _MOST_PROBLEMS:
                self._found.append(Problem(where, name, reason))
            else:
                self._more += 1

    def raise_any(self) -> None:
        if self._found:
            raise DataError("The data", self._found, self._more)


def _rows(
    sets: Sequence[Located],
    recipe: Recipe,
    problems: _Problems,
    counts: dict[str, Counts] | None = None,
) -> Iterator[Row]:
    """Every conversation once, unless duplicates are wanted."""
    seen: set[int] = set()
    for located in sets:
        tally = (counts or {}).get(located.data.name, Counts())
        for conversation in _read(located, problems, tally):
            number = number_of(conversation, recipe.schedule.seed)
            if recipe.deduplicate and number in seen:
                tally.duplicates += 1
                continue
            seen.add(number)
            yield Row(located.data.name, conversation, number)


def _read(located: Located, problems: _Problems, tally: Counts) -> Iterator[Conversation]:
    data, taken = located.data, 0
    shape: str | None = None if data.format == "auto" else data.format
    for path in located.files:
        unit = "line" if ".jsonl" in path.name else "row"
        for raw in read_rows(path):
            if taken == data.limit:
                return
            taken += 1
            tally.rows += 1
            where = f"{data.name}: {path.name}, {unit} {raw.number}"
            shape = shape or _shape_of(raw, data)
            try:
                yield _conversation(raw, shape, data)
            except RowError as error:
                if data.mistakes == "skip":
                    tally.skipped += 1
                else:
                    problems.add(where, error.wrongs)


def _shape_of(raw: RawRow, data: DataSet) -> str | None:
    value: Any = raw.value
    if isinstance(value, dict):
        value = value | dict.fromkeys(data.fields)
    return detect_shape(value)


def _conversation(raw: RawRow, shape: str | None, data: DataSet) -> Conversation:
    if raw.problem is not None:
        raise RowError([("row", raw.problem)])
    if shape is None:
        raise RowError(
            [("row", "has none of instruction, conversations, messages, text; set 'fields'")]
        )
    return read_conversation(raw.value, shape, data.fields)
