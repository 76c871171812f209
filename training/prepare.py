"""A recipe's data as the datasets that the trainer reads, and what is reported of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from server.prompts.formatter import Formatter
from training.data.lengths import Lengths
from training.data.sets import (
    Located,
    Survey,
    held_out_rows,
    streamed_cut,
    survey,
    training_rows,
    write_conversations,
)
from training.encoding import encoded, read_rows, write_rows
from training.errors import TrainingError
from training.recipe import Recipe
from training.run_folder import RunFolder

_SHUFFLED = 10_000


def prepare_rows(
    sets: Sequence[Located], recipe: Recipe, formatter: Formatter, folder: RunFolder, *, main: bool
) -> tuple[Any, Any]:
    """Render every row into the run's folder.

    Args:
        main: Whether this process does it; the others read what it has written.

    Returns:
        Two ``datasets.Dataset``: what is trained, and what is held out or None.

    Raises:
        DataError: Rows are wrong; names all of them.
        TrainingError: No row is left to train on.
    """
    if main:
        found = survey(sets, recipe)
        trained, kept_back = Lengths(recipe.max_length), Lengths(recipe.max_length)
        rows = training_rows(sets, recipe, found.cut)
        write_rows(folder.rows("train"), encoded(rows, recipe, formatter, trained))
        rows = held_out_rows(sets, recipe, found.cut)
        write_rows(folder.rows("held_out"), encoded(rows, recipe, formatter, kept_back))
        write_conversations(folder.held_out, held_out_rows(sets, recipe, found.cut))
        write_report(folder, found, trained, kept_back)
        folder.require_same_rows()
        if not trained.rows:
            raise TrainingError(
                f"No row has an answer within max_length ({recipe.max_length} tokens). Raise it."
            )
    train, held_out = read_rows(folder.rows("train")), read_rows(folder.rows("held_out"))
    return train, held_out if len(held_out) else None


def streamed_rows(
    sets: Sequence[Located], recipe: Recipe, formatter: Formatter, folder: RunFolder, *, main: bool
) -> tuple[Any, Any]:
    """Rows that are rendered while they are trained; those held out are rendered before.

    A row that is wrong is passed over: nobody looks at all of them first. ``corral train --check``
    does.

    Returns:
        A ``datasets.IterableDataset``, and a ``datasets.Dataset`` or None.
    """
    from datasets import IterableDataset

    cut = streamed_cut(recipe)
    if main:
        kept_back = Lengths(recipe.max_length)
        rows = held_out_rows(sets, recipe, cut)
        write_rows(folder.rows("held_out"), encoded(rows, recipe, formatter, kept_back))
        write_conversations(folder.held_out, held_out_rows(sets, recipe, cut))

    def endless() -> Iterator[dict[str, list[int]]]:
        while True:
            lengths = Lengths(recipe.max_length)
            for row in encoded(training_rows(sets, recipe, cut), recipe, formatter, lengths):
                yield {"input_ids": row.input_ids, "labels": row.labels}
            if not lengths.rows:
                raise TrainingError("The data hold no row to train on; corral train --check")

    train = IterableDataset.from_generator(endless)
    held_out = read_rows(folder.rows("held_out"))
    shuffled = train.shuffle(seed=recipe.schedule.seed, buffer_size=_SHUFFLED)
    return shuffled, held_out if len(held_out) else None


def write_report(folder: RunFolder, found: Survey, trained: Lengths, kept_back: Lengths) -> None:
    """Write what is known of the rows to ``lengths.json``."""
    report = {
        "sets": {name: asdict(counts) for name, counts in found.counts.items()},
        "trained": trained.summary(),
        "held_out": kept_back.summary(),
    }
    (folder.path / "lengths.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
