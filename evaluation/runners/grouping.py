"""What is left to ask, in groups with one longest answer each: what other programs call a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.items import Item, Task
from evaluation.options import Options
from evaluation.questions import answer_key
from evaluation.store import Store


@dataclass(frozen=True, slots=True)
class Group:
    """Items of a task."""

    name: str
    task: Task
    items: tuple[Item, ...]
    max_tokens: int


def groups(
    options: Options, model: str, tasks: Sequence[Task], store: Store, *, turns: bool
) -> list[Group]:
    """Whatever has no answer yet.

    Args:
        turns: Whether items with turns before their prompt can be asked.
    """
    asking = options.asking
    found: dict[tuple[str, int], list[Item]] = {}
    by_name = {task.name: task for task in tasks}
    for task in tasks:
        for item in task.items:
            key = answer_key(asking, model, task, item, asking.seeds[0])
            if (item.before and not turns) or store.get(key) is not None:
                continue
            longest = asking.sampling(task, item, asking.seeds[0]).max_tokens
            found.setdefault((task.name, longest), []).append(item)
    return [
        Group(f"corral_{name}_{longest}".replace("/", "_"), by_name[name], tuple(items), longest)
        for (name, longest), items in found.items()
    ]


def rules_of(item: Item) -> str:
    """Its rules as JSON; "" where it has none."""
    return "" if item.score is None else item.score.model_dump_json(exclude_none=True)


def keep(
    options: Options,
    model: str,
    group: Group,
    item: Item,
    result: dict[str, Any],
    store: Store,
) -> None:
    """Keep an answer as if we had asked."""
    seed = options.asking.seeds[0]
    about = {
        "kind": "answer",
        "model": model,
        "task": group.task.name,
        "item": item.id,
        "seed": seed,
        "runner": options.runner,
    }
    store.add(answer_key(options.asking, model, group.task, item, seed), about | result)
