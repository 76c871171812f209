"""Questions to a server whose answers are kept: what has its result already is not asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from evaluation.errors import RequestRefused
from evaluation.store import Store

T = TypeVar("T")


class Progress(Protocol):
    """What is told while work goes on."""

    def begin(self, what: str, total: int, done: int) -> None:
        """Begin a stage of ``total`` steps, of which some were done by an earlier run."""

    def advance(self) -> None:
        """One more is done."""

    def note(self, text: str) -> None:
        """A line worth reading."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to ask.

    Args:
        key: The same for the same question asked in the same way; see `items.digest`.
        about: What is kept beside the result.
        ask: Asks; what it returns is kept.
    """

    key: str
    about: dict[str, Any]
    ask: Callable[[], Awaitable[dict[str, Any]]]


async def run_jobs(what: str, jobs: Sequence[Job], store: Store, progress: Progress) -> None:
    """Ask whatever has no result yet, as many at a time as the endpoint allows.

    A request that the server finds fault with is kept as an ``error``; anything else ends the run.

    Raises:
        EndpointError: The server is gone, refuses the key, or fails at everything.
    """
    todo = [job for job in jobs if store.get(job.key) is None]
    progress.begin(what, len(jobs), len(jobs) - len(todo))

    async def run(job: Job) -> None:
        try:
            result = await job.ask()
        except RequestRefused as error:
            result = {"error": str(error)}
        store.add(job.key, job.about | result)
        progress.advance()

    await together(run(job) for job in todo)


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results; the first error ends the others and is raised itself, not in a group."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
