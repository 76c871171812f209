"""The tasks' questions, put to a model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.endpoint import Endpoint, Sampling
from evaluation.items import Item, Task, digest
from evaluation.jobs import Job


@dataclass(frozen=True, slots=True)
class Asking:
    """How questions are asked.

    Args:
        seeds: Each item is asked once with each.
        completions: Models that get the bare text through ``/completions``.
        max_tokens: Above the tasks' own; None: theirs.
    """

    temperature: float = 0.0
    seeds: tuple[int, ...] = (0,)
    completions: frozenset[str] = frozenset()
    max_tokens: int | None = None

    def sampling(self, task: Task, item: Item, seed: int) -> Sampling:
        """What an item's request says of sampling."""
        longest = self.max_tokens or item.max_tokens or task.max_tokens
        return Sampling(self.temperature, seed, longest)


def answer_key(asking: Asking, model: str, task: Task, item: Item, seed: int) -> str:
    """Of an answer's result: the same however the answer is scored later."""
    return digest(
        {
            "kind": "answer",
            "model": model,
            "messages": item.messages,
            "sampling": asdict(asking.sampling(task, item, seed)),
            "as_text": model in asking.completions,
        }
    )


def question_jobs(
    endpoint: Endpoint, asking: Asking, model: str, tasks: tuple[Task, ...]
) -> Iterator[Job]:
    """One job an item and seed."""
    for task in tasks:
        for item in task.items:
            for seed in asking.seeds:
                about = {
                    "kind": "answer",
                    "model": model,
                    "task": task.name,
                    "item": item.id,
                    "seed": seed,
                }
                ask = _asker(endpoint, model, item, asking.sampling(task, item, seed), asking)
                yield Job(answer_key(asking, model, task, item, seed), about, ask)


def as_text(item: Item) -> str:
    """A conversation as a model sees it that knows no roles."""
    said = [text for one in item.before for text in one.texts]
    return "\n".join([*said, item.prompt])


def _asker(
    endpoint: Endpoint, model: str, item: Item, sampling: Sampling, asking: Asking
) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def ask() -> dict[str, Any]:
        if model in asking.completions:
            answer = await endpoint.complete(model, as_text(item), sampling)
        else:
            answer = await endpoint.chat(model, item.messages, sampling)
        return asdict(answer)

    return ask
