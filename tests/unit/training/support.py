"""Recipes and data for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.data.sets import Located
from training.recipe import Recipe


def recipe_of(**fields: Any) -> Recipe:
    """A recipe with a folder of data that nobody looks at."""
    known: dict[str, Any] = {
        "name": "tiny-alpaca",
        "model": "tiny",
        "template": "alpaca",
        "data": [{"name": "rows", "source": {"directory": "/data"}}],
        "schedule": {"epochs": 1},
    }
    return Recipe.model_validate(known | fields)


def alpaca(count: int, start: int = 0) -> list[dict[str, str]]:
    """Rows in Alpaca's shape, each another one."""
    return [
        {"instruction": f"Add {n} and 1.", "input": "", "output": f"It is {n + 1}."}
        for n in range(start, start + count)
    ]


def written(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def located(recipe: Recipe, *files: Path) -> list[Located]:
    """The recipe's sets, one file each."""
    return [Located(data, [file]) for data, file in zip(recipe.data, files, strict=True)]
