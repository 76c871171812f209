"""Files of rows, one row at a time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from training.data import reading
from training.data.reading import RawRow, read_rows

VALUES: list[Any] = [{"text": 'a [1, {2}] "b" \\'}, {"text": "émile\n你好"}, {"n": [1.5, None]}]


def values(path: Path) -> list[Any]:
    found = list(read_rows(path))
    assert [row.problem for row in found] == [None] * len(found)
    return [row.value for row in found]


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_lists_in_blocks_of_any_size(
    block: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(VALUES, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_rows(path)) == [RawRow(n, value) for n, value in enumerate(VALUES, start=1)]


def test_json_lines_are_numbered_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n{"a": 2}')
    found = list(read_rows(path))
    assert [row.number for row in found] == [1, 3, 4]
    assert [row.value for row in found] == [{"a": 1}, None, {"a": 2}]
    assert found[1].problem is not None
    assert found[1].problem.startswith("is not JSON: Expecting value")


def test_packed_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert values(path) == [{"a": 1}]
    path.write_bytes(path.read_bytes()[:-9])
    (broken,) = (row for row in read_rows(path) if row.problem)
    assert "the file cannot be read" in str(broken.problem)


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"instruction": f"i{n}", "output": f"o{n}"} for n in range(2000)]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert values(path) == rows
    path.write_bytes(b"no parquet")
    (broken,) = read_rows(path)
    assert "the file is no Parquet" in str(broken.problem)


def test_text_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Once\n\nupon a time")
    assert values(path) == [{"text": "Once\n\nupon a time"}]


@pytest.mark.parametrize(
    ("text", "rows", "problem"),
    [
        ("{}", 0, "the file must hold a list of rows: [{...}, {...}]"),
        ("", 0, "the file must hold a list of rows: [{...}, {...}]"),
        ("[{}, {]", 1, "is not JSON: Expecting property name enclosed in double quotes"),
        ("[{} {}]", 1, "no comma or ']' behind it; the file is damaged here"),
        ("[{}", 1, "no comma or ']' behind it; the file is damaged here"),
        ("[{},]", 1, "a comma without a row behind it"),
    ],
)
def test_damaged_lists(text: str, rows: int, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    *good, bad = read_rows(path)
    assert [row.value for row in good] == [{}] * rows
    assert bad.problem is not None
    assert bad.problem.startswith(problem)


def test_an_empty_list(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(" [ ] ")
    assert list(read_rows(path)) == []


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": "é"}'.encode("latin-1"))
    (row,) = read_rows(path)
    assert "the file cannot be read: 'utf-8' codec" in str(row.problem)
