"""The rows of a data set as token ids on disk, where PyTorch reads them without loading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from server.errors import InvalidRequest, Problem
from server.prompts.formatter import Formatter
from training.data.lengths import Lengths
from training.data.sets import Row
from training.errors import DataError
from training.recipe import Recipe
from training.rendering import TokenRow, token_rows

_CHUNK: Final = 1000


def encoded(
    rows: Iterable[Row], recipe: Recipe, formatter: Formatter, lengths: Lengths
) -> Iterator[TokenRow]:
    """Render rows and bring them to the recipe's length.

    Raises:
        DataError: The format cannot show one of them.
    """
    for row in rows:
        try:
            for each in token_rows(formatter, row.conversation, recipe.answers):
                fitting = _fitted(each, recipe, lengths)
                if fitting is not None:
                    lengths.add(len(fitting.input_ids), fitting.trained)
                    yield fitting
        except InvalidRequest as error:
            first = row.conversation.messages[0].text[:60]
            problem = Problem(row.set_name, error.param or "messages", f"{error} ({first!r}...)")
            raise DataError("The data", [problem]) from error


def _fitted(row: TokenRow, recipe: Recipe, lengths: Lengths) -> TokenRow | None:
    if len(row.input_ids) <= recipe.max_length:
        return row
    lengths.truncated += 1
    cut = row.cut(recipe.max_length)
    if recipe.too_long == "drop" or not cut.trained:
        lengths.dropped += 1
        return None
    return cut


def write_rows(path: Path, rows: Iterable[TokenRow]) -> None:
    """Write rows as an Arrow stream, a thousand at a time."""
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    schema = pa.schema([("input_ids", ids), ("labels", ids)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for chunk in _chunks(rows):
            columns = {
                "input_ids": [row.input_ids for row in chunk],
                "labels": [row.labels for row in chunk],
            }
            writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))


def read_rows(path: Path) -> Any:
    """A ``datasets.Dataset`` over what ``write_rows`` has written."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def _chunks(rows: Iterable[TokenRow]) -> Iterator[list[TokenRow]]:
    chunk: list[TokenRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
