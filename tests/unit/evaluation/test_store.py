"""Results on disk: kept line by line, also when the machine goes down in the middle of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.errors import OtherRun, WrongInput
from evaluation.store import Store


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    with Store(tmp_path / "out") as store:
        store.add("a", {"text": "é\n\u2028"})
        # Before it is closed: others may look while it grows.
        assert Store(tmp_path / "out").get("a") == {"key": "a", "text": "é\n\u2028"}
    again = Store(tmp_path / "out")
    assert again.have(["a"])
    assert not again.have(["a", "b"])


@pytest.mark.parametrize(
    "half",
    ['{"key": "b', '{"key": "b", "text": "é'.encode()[:-1].decode("latin-1"), '{"key": "b"}'],
)
def test_half_a_line_is_cut_off(half: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"key": "a"}\n' + half.encode("latin-1"))
    with Store(tmp_path) as store:
        assert (store.get("a"), store.get("b")) == ({"key": "a"}, None)
        store.add("c", {})
    assert path.read_text() == '{"key": "a"}\n{"key": "c"}\n'


@pytest.mark.parametrize("line", ["not json", "[]", "{}", "7"])
def test_a_damaged_line_is_told(line: str, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(f'{{"key": "a"}}\n{line}\n{{"key": "b"}}\n')
    with pytest.raises(WrongInput, match=r"results\.jsonl:2 is no result"):
        Store(tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(OtherRun, match="another evaluation writes"):
        Store(tmp_path).__enter__()
    with Store(tmp_path):
        pass


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OtherRun, match="cannot be used: File exists"):
        Store(tmp_path / "file")
    with pytest.raises(OtherRun, match="cannot be used: Not a directory"):
        Store(tmp_path / "file" / "below")
