"""Sets become one stream: weighted, without duplicates, split, and with every mistake named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.loading import read_held_out
from server.prompts.catalog import get_format
from server.prompts.formatter import Formatter
from server.prompts.tokenizer import PromptTokenizer
from tests.unit.training.support import alpaca, located, recipe_of, written
from training.data.sets import (
    Counts,
    held_out_rows,
    number_of,
    survey,
    training_rows,
    write_conversations,
)
from training.data.shapes import read_conversation
from training.errors import DataError
from training.recipe import Recipe
from training.rendering import token_rows


def two_sets(a: float = 1.0, b: float = 1.0, **fields: object) -> Recipe:
    source = {"directory": "/data"}
    sets = [{"name": n, "source": source, "weight": w} for n, w in (("a", a), ("b", b))]
    return recipe_of(data=sets, **fields)


def asked(rows: object) -> list[str]:
    return [row.conversation.messages[0].text for row in rows]  # type: ignore[attr-defined]


def test_the_same_rows_are_held_out_in_whatever_order(tmp_path: Path) -> None:
    recipe = recipe_of(held_out=0.1)
    rows = alpaca(500)
    forwards = located(recipe, written(tmp_path / "a.jsonl", rows))
    backwards = located(recipe, written(tmp_path / "b.jsonl", rows[::-1] + alpaca(20, 500)))
    found = survey(forwards, recipe)
    kept = asked(held_out_rows(forwards, recipe, found.cut))
    again = survey(backwards, recipe)
    assert found.counts["rows"] == Counts(rows=500, held_out=len(kept), trained=500 - len(kept))
    assert 30 < len(kept) < 70
    assert {*kept} <= {*asked(held_out_rows(backwards, recipe, again.cut))}
    assert not {*kept} & {*asked(training_rows(forwards, recipe, found.cut))}
    other = recipe_of(held_out=0.1, schedule={"epochs": 1, "seed": 1})
    assert asked(held_out_rows(forwards, other, survey(forwards, other).cut)) != kept


@pytest.mark.parametrize("count", [1, 37, 499])
def test_so_many_rows_are_held_out(count: int, tmp_path: Path) -> None:
    recipe = recipe_of(held_out=count)
    sets = located(recipe, written(tmp_path / "a.jsonl", alpaca(500)))
    found = survey(sets, recipe)
    assert found.held_out == count
    assert len(list(held_out_rows(sets, recipe, found.cut))) == count
    assert found.trained == len(list(training_rows(sets, recipe, found.cut))) == 500 - count


def test_nothing_is_held_out_unless_asked_for(tmp_path: Path) -> None:
    recipe = recipe_of(held_out=None)
    sets = located(recipe, written(tmp_path / "a.jsonl", alpaca(20)))
    assert survey(sets, recipe).counts["rows"] == Counts(rows=20, trained=20)


def test_weights_repeat_rows_and_leave_some_out(tmp_path: Path) -> None:
    recipe = two_sets(2.5, 0.25, held_out=None)
    a, b = alpaca(400), alpaca(400, 1000)
    sets = located(recipe, written(tmp_path / "a.jsonl", a), written(tmp_path / "b.jsonl", b))
    found = survey(sets, recipe)
    seen = Counter(asked(training_rows(sets, recipe, found.cut)))
    of_a = [seen[row["instruction"]] for row in a]
    of_b = [seen[row["instruction"]] for row in b]
    assert {*of_a} == {2, 3}
    assert {*of_b} == {0, 1}
    assert 940 < sum(of_a) < 1060
    assert 70 < sum(of_b) < 130
    assert found.counts["a"].trained == sum(of_a)
    assert found.counts["b"].trained == sum(of_b)
    assert Counter(asked(training_rows(sets, recipe, found.cut))) == seen


def test_duplicates_are_left_out_across_sets(tmp_path: Path) -> None:
    recipe = two_sets(held_out=None)
    a = written(tmp_path / "a.jsonl", alpaca(10))
    b = written(tmp_path / "b.jsonl", alpaca(10, 5))
    sets = located(recipe, a, b)
    found = survey(sets, recipe)
    assert found.counts == {
        "a": Counts(rows=10, trained=10),
        "b": Counts(rows=10, duplicates=5, trained=5),
    }
    wanted = two_sets(held_out=None, deduplicate=False)
    assert survey(located(wanted, a, b), wanted).counts["b"] == Counts(rows=10, trained=10)


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    recipe = recipe_of()
    rows = [*alpaca(2), {"instruction": "x"}, 3, {"instruction": "", "output": ""}]
    path = written(tmp_path / "bad.jsonl", rows)
    with path.open("a") as file:
        file.write("{\n")
    with pytest.raises(DataError) as caught:
        survey(located(recipe, path), recipe)
    text = str(caught.value)
    assert text.splitlines()[:5] == [
        "The data has 5 problems:",
        "  rows: bad.jsonl, line 3: output: is missing",
        "  rows: bad.jsonl, line 4: row: must be an object, not a number",
        "  rows: bad.jsonl, line 5: instruction: is empty",
        "  rows: bad.jsonl, line 5: output: is empty",
    ]
    assert text.splitlines()[5].startswith("  rows: bad.jsonl, line 6: row: is not JSON")


def test_many_mistakes_are_counted(tmp_path: Path) -> None:
    recipe = recipe_of()
    path = written(tmp_path / "bad.jsonl", [{"instruction": "x"}] * 1500)
    with pytest.raises(DataError) as caught:
        survey(located(recipe, path), recipe)
    lines = str(caught.value).splitlines()
    assert (lines[0], lines[-1]) == ("The data has 1500 problems:", "  and 1480 more")


def test_wrong_rows_can_be_skipped(tmp_path: Path) -> None:
    data = {"name": "rows", "source": {"directory": "/data"}, "mistakes": "skip"}
    recipe = recipe_of(data=[data], held_out=None)
    path = written(tmp_path / "bad.jsonl", [*alpaca(3), {"instruction": "x"}, {"output": ""}])
    assert survey(located(recipe, path), recipe).counts["rows"] == Counts(
        rows=5, skipped=2, trained=3
    )


def test_rows_of_no_shape_say_what_to_do(tmp_path: Path) -> None:
    recipe = recipe_of()
    path = written(tmp_path / "a.jsonl", [{"question": "x", "answer": "y"}])
    with pytest.raises(DataError, match="has none of instruction, conversations, messages, text"):
        survey(located(recipe, path), recipe)


def test_no_rows_at_all(tmp_path: Path) -> None:
    recipe = recipe_of()
    with pytest.raises(DataError, match="there is no row to train on"):
        survey(located(recipe, written(tmp_path / "a.jsonl", [])), recipe)


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    data = {"name": "rows", "source": {"directory": "/data"}, "limit": 7}
    recipe = recipe_of(data=[data], held_out=None)
    sets = located(recipe, written(tmp_path / "a.jsonl", alpaca(20)))
    assert len(list(training_rows(sets, recipe, 0))) == 7


def test_what_is_held_out_is_written_for_the_evaluation(
    tmp_path: Path, tokenizer_of: Callable[[str], PromptTokenizer]
) -> None:
    recipe = recipe_of(held_out=5)
    rows = [row | {"input": f"with {n}"} for n, row in enumerate(alpaca(20))]
    sets = located(recipe, written(tmp_path / "a.jsonl", rows))
    cut = survey(sets, recipe).cut
    path = tmp_path / "held_out.jsonl"
    assert write_conversations(path, held_out_rows(sets, recipe, cut)) == 5

    again = recipe_of(held_out=None)
    read = list(training_rows(located(again, path), again, 0))
    for name in ("alpaca", "chatml"):
        formatter = Formatter(get_format(name), tokenizer_of("llama"))
        assert [list(token_rows(formatter, row.conversation)) for row in read] == [
            list(token_rows(formatter, row.conversation))
            for row in held_out_rows(sets, recipe, cut)
        ]
    found = read_held_out(path)
    assert [conversation.where for conversation in found] == [f"{path}:{n}" for n in range(1, 6)]
    ask, tell = found[0].messages
    assert ask.texts[1].startswith("with ")
    assert str(tell.content).startswith("It is ")


def test_numbers_depend_on_content_and_seed_alone() -> None:
    one = read_conversation(alpaca(1)[0], "alpaca")
    assert number_of(one, 0) == number_of(one, 0) == 1_930_868_218_434_316_894
    assert number_of(one, 1) != number_of(one, 0)
